// Package export writes an image as one archive, for other programs that know
// images: the opposite of rootfs/archive.
//
// The same image gives the same bytes, on every host and under every id map:
// owners are the numbers that the image has inside, and no time of the export is
// in it. An image's files lie in the store as one tree, so what is written has
// one layer, whatever the image was made of; its digest is another one for that.
//
// The tree is read twice: an archive says how long its parts are, and what their
// digests are, before they come. Nothing is kept in memory or in a file.
//
// The formats: image-layout.md, manifest.md and config.md of the OCI image format
// 1.1; the docker image specification 1.2 for manifest.json.
//
// Do not use it on a tree that is being changed: that ends in an error.
package export
