module github.com/sbx-run/sbx

go 1.26.0

require (
	github.com/alecthomas/kong v1.17.0 // indirect
	github.com/moby/sys/mountinfo v0.7.3 // indirect
	github.com/rogpeppe/go-internal v1.16.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
)
