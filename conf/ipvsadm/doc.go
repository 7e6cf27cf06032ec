// Package ipvsadm reads and writes what `ipvsadm -S -n` prints, the form in which IPVS's services
// are saved and restored:
//
//	-A -t 198.51.100.10:80 -s wlc -p 300
//	-a -t 198.51.100.10:80 -r 10.0.0.11:80 -m -w 1
//
// Parse takes shell scripts of ipvsadm commands too, as far as they name no shell variables: with
// the word ipvsadm in front, with long options, with lines that edit or delete what came before.
// Options are those of ipvsadm(8) 1.31.
package ipvsadm
