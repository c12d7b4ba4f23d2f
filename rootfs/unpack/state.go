package unpack

// State carries totals and notes over the layers of one image. The zero value
// is the state before the first layer.
type State struct {
	// Layers counts those that were applied in full.
	Layers int `json:"layers"`
	// Entries counts headers and the directories made for them.
	Entries int64 `json:"entries"`
	// Bytes is the sum of the sizes of the files, replaced ones included.
	Bytes int64 `json:"bytes"`
	// Stream is the length of the uncompressed layers in bytes.
	Stream int64 `json:"stream"`
	// Notes tell what differs from the archive: at most one for each kind.
	Notes Notes `json:"notes,omitempty"`
}
