package rootfs

// Via names the step of the search of ld.so(8) by which a library was found.
type Via string

// The steps, in the order in which the loader takes them.
const (
	// ViaInterp is the dynamic loader itself, named by PT_INTERP.
	ViaInterp Via = "interpreter"
	// ViaPath is a DT_NEEDED with a slash in it, which is opened as it stands.
	ViaPath Via = "path"
	// ViaRPath is a DT_RPATH of the object that asks or of one above it.
	ViaRPath Via = "rpath"
	// ViaRunPath is the DT_RUNPATH of the object that asks.
	ViaRunPath Via = "runpath"
	// ViaCache is /etc/ld.so.cache.
	ViaCache Via = "cache"
	// ViaDefault is a directory that the loader searches by itself.
	ViaDefault Via = "default"
)

// Library is one shared object that a program needs, or its dynamic loader.
type Library struct {
	// Name is the text that asked for it: a DT_NEEDED such as "libz.so.1", or the PT_INTERP.
	Name string
	// Path is where the loader finds it in the tree that was searched; there may be links on the way.
	Path string
	// Inside is where a copy must stand so that the loader inside finds it. [Resolver.Closure] gives Path, [Lacking] a path in the image.
	Inside string
	// Links are all links on the way from Path to File, those of directories included ("/lib" on a merged-/usr system).
	Links []Link
	// File is the regular file at the end, a path without links.
	File string
	// Dev, Ino and Size (bytes) are those of File when it was read.
	Dev, Ino uint64
	Size     int64
	// NeededBy is the Path of the first object that asks for it.
	NeededBy string
	// Via is the step of the search that found it.
	Via Via
	// Replaces is set by [Lacking] when the image has something else at Inside that the loader cannot use; the copy takes its place.
	Replaces bool
}

// MissingLibrary is a library or a dynamic loader that was found nowhere.
type MissingLibrary struct {
	// Name is the text that asks for it.
	Name string
	// NeededBy is the path of the object that asks.
	NeededBy string
	// Interp is true when it is the dynamic loader (PT_INTERP): then the kernel itself cannot start the program.
	Interp bool
	// Reason says why a file that was found cannot be used; empty when there is none.
	Reason string
}

// Closure is everything that a set of files needs to be loaded.
type Closure struct {
	// Interps are the dynamic loaders, nearly always exactly one.
	Interps []Library
	// Libs are the shared libraries, each file once per path, in the order of loading.
	Libs []Library
	// Missing are the libraries that are not there.
	Missing []MissingLibrary
	// NotELF are those of the files that are no ELF objects (scripts, data), as given.
	NotELF []string
	// Refused are ELF files that cannot run on this machine: one [*ProgramError] each.
	Refused []error
}
