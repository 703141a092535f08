// A picture from the camera: of a phone by its own application, of other machines here.

import {id, warn} from "./elements.js";

const WHY = {
  NotAllowedError: "The camera is not allowed here. Allow it in the browser's settings of this page, or choose a file.",
  NotFoundError: "There is no camera. Choose a file.",
  NotReadableError: "The camera does not start. Does another program use it?",
};
const dialog = id("camera"), video = dialog.querySelector("video");
let number = 0;

// `add` gets files. Browsers give the camera only to pages that came over https, or from this machine.
export function offerCamera(add) {
  id("take-photo").querySelector("input").onchange = event => { add(event.target.files); event.target.value = ""; };
  id("use-camera").hidden = !navigator.mediaDevices?.getUserMedia || matchMedia("(pointer: coarse)").matches;
  id("use-camera").onclick = open;
  id("take").onclick = () => take(add);
  id("close").onclick = () => dialog.close();
  dialog.onclose = stop;  // also with Escape
}

async function open() {
  if (id("use-camera").ariaBusy === "true") return;
  warn();
  id("use-camera").ariaBusy = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    for (const track of video.srcObject.getTracks()) track.onended = () => { dialog.close(); warn("The camera has ended."); };
    dialog.showModal();
    id("take").focus();
  } catch (error) {
    warn(WHY[error.name] ?? `The camera does not start (${error.name}).`);
  } finally {
    id("use-camera").ariaBusy = false;
  }
}

function take(add) {
  if (!video.videoWidth) return;  // nothing to see yet
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  dialog.close();
  canvas.toBlob(blob => add([new File([blob], `camera ${number += 1}`)]), "image/jpeg", 0.95);
}

function stop() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  id("use-camera").focus();
}
