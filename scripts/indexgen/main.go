// Command indexgen adds fabricated index entries to a repository, for tests of scale.
package main

func main() { panic("not yet") }
