"""The names of the ways to explain an answer, without what does it: for the command line, which needs no TensorFlow."""

GRAD_CAM, INTEGRATED_GRADIENTS, OCCLUSION = "grad_cam", "integrated_gradients", "occlusion"
METHOD_NAMES = (GRAD_CAM, INTEGRATED_GRADIENTS, OCCLUSION)  # the first is the default
MOST_NEIGHBOURS = 8  # training images beside an explained one
NEIGHBOURS = 3  # by default
