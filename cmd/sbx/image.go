package main

// imageCommand are the commands for images that came from elsewhere.
type imageCommand struct {
	Import imageImportCommand `cmd:"" help:"Make an image of a directory or an archive."`
	Pull   imagePullCommand   `cmd:"" help:"Fetch an image from a registry."`
}
