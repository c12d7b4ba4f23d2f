// Package sbxtest is what the tests of sbx have in common: what a test needs
// of the machine ([Need]), how the built program is run ([Sandbox.Run]) and
// what the probe inside of it saw ([Sandbox.Report]).
//
// Tests that look at one package alone have no need of it. It is only for
// tests: it may build programs, and it ends a test instead of returning errors.
//
// The environment of scripts/test steers it:
//
//	SBX_BIN, SBX_PROBE   built programs; without them they are built once
//	SBX_TEST_HOME        the home whose store the tests share
//	SBX_MUST_WORK=1      what this machine lacks is a failure, not a skip
package sbxtest
