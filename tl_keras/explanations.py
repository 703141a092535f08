"""The names of the ways to explain an answer, without what does it: for the command line, which needs no TensorFlow."""

from tl_keras.errors import ConfigError

GRAD_CAM, INTEGRATED_GRADIENTS, OCCLUSION = "grad_cam", "integrated_gradients", "occlusion"
METHOD_NAMES = (GRAD_CAM, INTEGRATED_GRADIENTS, OCCLUSION)  # the first is the default
MOST_NEIGHBOURS = 8  # training images beside an explained one
NEIGHBOURS = 3  # by default


def require_options(method: str | None, neighbours: int | None) -> None:
    """Refuse a method that there is not, and a number of neighbours that is none; None stands for the default.

    Raises:
        ConfigError: as it says.
    """
    if method is not None and method not in METHOD_NAMES:
        raise ConfigError(f"--method: got {method!r}, expected one of {', '.join(METHOD_NAMES)}.")
    if neighbours is not None and not 0 <= neighbours <= MOST_NEIGHBOURS:
        raise ConfigError(f"--neighbours: got {neighbours}, expected an integer from 0 to {MOST_NEIGHBOURS}.")
