// Package ipvsadm parses and prints the format of `ipvsadm -S -n`, in which IPVS's services are
// saved and restored:
//
//	-A -t 198.51.100.10:80 -s wlc -p 300
//	-a -t 198.51.100.10:80 -r 10.0.0.11:80 -m -w 1
//
// Those of DPVS's ipvsadm are read as well: there -b of a server is full NAT, which older versions
// print as (null), and -P adds a local address.
//
// Parse also accepts shell scripts of ipvsadm commands without shell variables: with the word
// ipvsadm in front, with long options, with lines that edit or delete earlier ones. The options are
// those of ipvsadm(8) 1.31.
//
// The package starts no goroutine. It imports conf, conf/draft and pipeline/service. Source:
// ipvsadm(8).
package ipvsadm
