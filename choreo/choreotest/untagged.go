//go:build !synctests

package choreotest

const tagged = false
