// Command demo is `make demo`: it builds a small testbed of namespaces on this machine, lets Sluice
// balance real TCP and UDP of a real client in every mode and family, and prints the results. It
// needs root and takes less than a minute. It exits with 0 only if everything was right, and leaves
// nothing behind.
package main
