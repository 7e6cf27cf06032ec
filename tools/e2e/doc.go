// Package e2e holds the tests of the whole product: the real daemon between real hosts in
// namespaces, see package sluice/tools/e2e/testbed. They need root. They run one after the other,
// most of them in one testbed that is built once, each with a daemon of its own. After each test
// the counters must add up, and the daemon must leave nothing behind.
package e2e
