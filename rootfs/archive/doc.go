// Package archive tells what an image comes as, and unpacks it: a directory
// tree; a tar of one, plain or compressed; what docker save, podman save,
// skopeo, buildah and umoci write (docker-archive, OCI layout, as a tar or as a
// directory). The kind is found by reading, never from a name.
//
// Everything that is read is hostile (SECURITY D11 to D13):
//
//   - a digest has the form of one before it becomes a path or is compared with
//     anything (CVE-2024-3727);
//   - a document has a bound on its size, and must be what its media type says:
//     one that could be read as an index and as a manifest is refused
//     (CVE-2021-41190);
//   - indexes are read once each and to a bounded depth;
//   - every blob is compared with its digest and size, every layer with the
//     digest of its content (diff id), while it goes by;
//   - decompressors are part of the program, never one that is found on the host
//     (CVE-2021-20291), and have a bound on their memory.
//
// The specifications: image-layout.md, image-index.md, manifest.md and config.md
// of the OCI image format 1.1, and the docker image specification 1.2 for
// manifest.json.
//
// Do not use it outside of a confined process: it is written to be safe, and the
// confinement is for the case that it is not.
package archive
