// Questions about a file to the server that the page is from.

const AGAIN = [0, 503, 504];  // when the same question may be answered later; 0: there was no answer
const MOST_WAITS = 5;  // for a server that has no room, as long as it says
const mostBytes = Number(document.body.dataset.mostBytes);
let token = "";

export function useToken(given) { token = given; }

export class Refusal extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
    this.mayAskAgain = AGAIN.includes(status);
  }
}

export async function ask(address, file) {
  if (file.size > mostBytes) throw new Refusal(`The file is larger than ${mostBytes / 2 ** 20} MB. Choose a smaller one.`);
  const body = await file.arrayBuffer().catch(() => { throw new Refusal("This cannot be read. Is it a folder, or gone?"); });
  let reply, told;
  try {
    reply = await post(address, body);
    for (let waits = 0; reply.status === 503 && waits < MOST_WAITS; waits += 1) {
      await new Promise(done => setTimeout(done, 1000 * (reply.headers.get("Retry-After") ?? 1)));
      reply = await post(address, body);
    }
    told = await reply.json();
  } catch (error) {
    throw new Refusal("The server does not answer. Is it still running?", 0);
  }
  if (reply.status === 401) throw new Refusal("The server answers only to its token.", 401);
  if (!reply.ok) throw new Refusal(told.error.replace(/^image: /, "This file "), reply.status);
  return told;
}

function post(address, body) {
  const headers = {"Content-Type": "application/octet-stream"};
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(address, {method: "POST", headers, body});
}
