"""From a source of labelled images to a tf.data stream of raw uint8 pixels."""
