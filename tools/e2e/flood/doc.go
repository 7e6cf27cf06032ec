// Package flood sends SYNs or datagrams from random IPv4 addresses at a service of a testbed, at a
// rate that leaves most of a CPU to others: the sender sleeps between two bursts. Every packet has
// the type of service Mark, which no mode of a balancer changes, so that an interface behind it
// (netlab.Host.LoseTOS) drops the flood before a host has any work with it.
package flood
