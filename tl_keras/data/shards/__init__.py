"""Shards: files of thousands of images each, in which many data sets of a million images come.

A shard is read once, from its beginning to its end (`reading`): what lies where in it, under which label, with which content, is its
table of contents (`contents`), a file of plain arrays in the cache that is known by the shard's path, size and time. So nothing is
unpacked, no image is read to know its content, and a run that is killed keeps the tables of the shards that it came through.

Each image has a path then, `SHARD/NAME`, which `find` opens in any process by one search in the shard's table and one read at its
place: few tables are in memory at a time. What the images of a folder of shards are in all is for `sources.shards` to say.

    webdataset      a tar file: KEY.jpg beside KEY.cls or KEY.json, or images in class folders
    tfrecord        records of tf.train.Example, each at its place in the file (`example` reads them without TensorFlow)
    array_record    the same records in groups that may be compressed, read by their number with the package array_record

A shard may come from a stranger. Names, sizes and places are checked when it is read; nothing in it is run or unpacked.
"""
