package mounts

var bodies = map[string]body{
	"cost": costBody,
}
