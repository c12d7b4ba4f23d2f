// Package pull is sbx's side of fetching an image from a registry: what is asked of the helper program sbx-image, where that
// program is found, how it is run, and what is believed of its answer. The registry client itself, with its HTTP, TLS and
// JSON of foreign origin, is linked into the helper alone (cmd/sbx-image), so that no start of sbx pays for it and a mistake
// in it is made by a process that can write nothing but the download.
//
// The two processes share five descriptors:
//
//	0  the request, one JSON text on one line; after it the pipe stays open, and its end tells the helper that sbx is gone
//	1  what the helper says, one JSON text [Event] a line: progress, and at last a result or a failure
//	2  what else it says; kept for the message when it dies
//	3  the store's downloads directory: blobs, whole or in part
//	4  an empty directory of it, which becomes an OCI image layout
//
// When not to use it: to unpack what was fetched, or to trust it. A digest that was asked for is compared here, every other
// digest where the layers are unpacked.
package pull
