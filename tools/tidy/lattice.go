package tidy

// layer is what one package may import of this repository.
type layer struct {
	pkg string // directory, from the root of the repository
	may string // packages, separated by spaces; "x/..." is x and everything below it
	why string // the reason, which the error message repeats
}

// lattice has one entry for every package. A package without an entry is an error, and so is an
// entry without a package. Imports point one way:
//
//	cmd -> engine, conf      engine -> pipeline, rings, conf      conf -> pipeline/service
//
// and within the engine:
//
//	platform <- tokernel <- worker <- inspect      health, override <- policy <- tables <- inspect
//	engine -> all
var lattice = []layer{
	{"cmd/cli", "", "cli is a leaf"},
	{"cmd/sluice", "cmd/cli cmd/sluice/... engine/... conf/...", "the binary only wires"},
	{"cmd/sluice/daemon", "engine/... conf/...", "the daemon wires the engine to systemd, the API and the log; verbs call it"},
	{"cmd/sluice/keeper", "engine/process", "the keeper knows nothing of what it holds"},
	{"cmd/sluice/text", "", "text is a leaf"},
	{"cmd/sluice/top", "cmd/sluice/text engine/api", "top is a client of the API"},

	{"conf", "pipeline/service", "a configuration is checked without a machine"},
	{"conf/draft", "conf pipeline/service", "a configuration is checked without a machine"},
	{"conf/ipvsadm", "conf conf/draft pipeline/service", "a configuration is checked without a machine"},
	{"conf/keepalived", "conf conf/draft pipeline/service", "a configuration is checked without a machine"},

	{"engine", "engine/... pipeline/... conf", "the engine runs everything below it and gives it tables; only worker touches rings"},
	{"engine/accesslist", "engine/api engine/state pipeline pipeline/access pipeline/packet pipeline/service conf", "accesslist <- tables: values set at run time, and lists of a configuration"},
	{"engine/platform", "engine/health/truepath engine/steer engine/route pipeline/... rings conf", "platform is an interface that memory and Linux implement"},
	{"engine/platform/linux", "engine/platform engine/cpu engine/health/truepath engine/steer engine/route engine/tokernel engine/xsk pipeline/... conf", "it implements platform and knows no worker"},
	{"engine/records", "pipeline/conn pipeline/packet pipeline/service", "a format knows tables of connections, and no one who writes or reads it"},
	{"engine/worker", "engine/platform engine/cpu engine/filter engine/tokernel pipeline/... rings", "platform <- worker: a worker reads tables of the pipeline and knows no one who makes them"},
	{"engine/health", "pipeline/service", "health <- policy: checks report results and know nothing of their use"},
	{"engine/health/policy", "engine/health engine/override pipeline/service conf", "health <- policy <- tables: availability is a value machine"},
	{"engine/tokernel", "engine/platform engine/cpu engine/tun pipeline/... rings", "platform <- tokernel <- worker: it carries packets from workers to the kernel"},
	{"engine/tun", "", "tun is a leaf"},
	{"engine/health/truepath", "engine/tun pipeline/...", "it carries health checks the way of the clients' packets"},
	{"engine/takeover", "engine/health engine/platform engine/records engine/tables engine/worker pipeline/...", "worker, tables <- takeover: it gives workers what a former process had, without an Engine"},
	{"engine/tables", "engine/accesslist engine/health engine/health/policy engine/override engine/steer pipeline/... conf", "policy <- tables <- inspect: tables are built by pure functions from values"},
	{"engine/state", "", "what is stored knows nothing of what runs"},
	{"engine/override", "pipeline/service conf", "override <- policy: values set at run time"},
	{"engine/inspect", "engine/accesslist engine/api engine/filter engine/health/policy engine/platform engine/route engine/steer engine/tables engine/worker pipeline/... conf",
		"worker, tables <- inspect: it works on tables and pipeline, without an Engine"},
	{"engine/api", "engine/api/page engine/process pipeline/service pipeline/counter", "the engine implements api.Control, so api cannot know the engine"},
	{"engine/api/apitest", "engine/api", "it serves a fake api.Control"},
	{"engine/api/page", "", "the page is files"},
	{"engine/attention", "engine/api engine/health engine/health/policy pipeline/service conf", "it works on values, without an Engine"},
	{"engine/cpu", "", "cpu is a leaf"},
	{"engine/doctor", "conf engine/... pipeline/...", "doctor examines a box with what the engine would use"},
	{"engine/enginetest", "engine/... pipeline/... rings conf", "it is the whole engine on memory ports"},
	{"engine/estate", "", "what is stored knows nothing of its meaning"},
	{"engine/eventlog", "engine/api", "the log renders what the API reports"},
	{"engine/answers", "engine/api engine/platform engine/worker pipeline/counter", "worker <- answers: it asks workers, without an Engine"},
	{"engine/host", "engine/cpu engine/route conf", "it reads what a configuration is checked against"},
	{"engine/filter", "pipeline/packet pipeline/service", "a filter is compiled without a machine"},
	{"engine/metrics", "engine/api", "metrics render what the API reports"},
	{"engine/pressure", "pipeline/counter", "it works on values, without an Engine"},
	{"engine/pcap", "", "pcap is a leaf"},
	{"engine/process", "", "process is a leaf"},
	{"engine/plan", "engine/accesslist engine/api engine/override engine/tables pipeline/... conf", "a plan is a function of two configurations"},
	{"engine/route", "pipeline/nexthop pipeline/packet", "route follows the kernel and fills the pipeline's next hops"},
	{"engine/steer", "pipeline/service", "steering is decided from rules and a packet"},
	{"engine/xsk", "pipeline/flow rings", "sockets carry descriptors"},

	{"pipeline", "pipeline/...", pure},
	{"pipeline/access", "pipeline/packet", pure},
	{"pipeline/conn", "pipeline/counter pipeline/flow pipeline/packet", pure},
	{"pipeline/counter", "", "the pipeline is pure; counter is a leaf"},
	{"pipeline/flow", "pipeline/packet", pure},
	{"pipeline/fragment", "pipeline/flow pipeline/packet", pure},
	{"pipeline/nexthop", "pipeline/counter pipeline/packet pipeline/rewrite", pure},
	{"pipeline/packet", "pipeline/counter", pure},
	{"pipeline/packet/packettest", "", pure},
	{"pipeline/rewrite", "pipeline/packet", pure},
	{"pipeline/sched", "pipeline/counter pipeline/service", pure},
	{"pipeline/service", "", "the pipeline is pure; service is a leaf"},
	{"pipeline/servicemap", "pipeline/packet pipeline/service", pure},
	{"pipeline/snat", "pipeline/flow pipeline/packet", pure},

	{"rings", "", "rings carry descriptors of whatever is in them"},

	{"bench", "bench/... engine/... pipeline/... rings conf tools/chart tools/pktgen/...", "benchmarks may use everything, and only tests may use them"},
	{"bench/compare", "bench/loops bench/peers bench/report bench/testbed bench/sockets bench/wire tools/netlab tools/pktgen/flow tools/pktgen/affinity", "benchmarks may use everything, and only tests may use them"},
	{"bench/flooding", "tools/pause engine/api engine/cpu tools/e2e/... tools/netlab/...", "benchmarks may use everything, and only tests may use them"},
	{"bench/loops", "conf engine/... pipeline/... rings", "a loop is a bare forwarder on the engine's sockets"},
	{"bench/peers", "bench/loops bench/testbed engine/api conf tools/netlab", "peers are programs"},
	{"bench/report", "tools/chart", "a report is made of values"},
	{"bench/testbed", "tools/netlab", "the hosts of a benchmark are namespaces"},
	{"bench/sockets", "tools/pause tools/pktgen/affinity", "load over the kernel's sockets"},
	{"bench/steady", "tools/pause conf engine/... pipeline/... rings", "a stream is the whole engine on a port in memory"},
	{"bench/wire", "bench/testbed tools/pktgen/...", "load over raw sockets"},

	{"tools/browser", "tools/e2e/testbed", outside},
	{"tools/bpf2go", "", "bpf2go is a leaf"},
	{"tools/chart", "", "chart is a leaf"},
	{"tools/decap", "tools/netlab/decap", outside},
	{"tools/demo", "engine/cpu tools/e2e/testbed tools/netlab/...", outside},
	{"tools/e2e", "engine/api engine/cpu pipeline/counter pipeline/packet/packettest tools/browser tools/e2e/... tools/netlab/...", outside},
	{"tools/e2e/flood", "tools/netlab tools/pktgen/...", outside},
	{"tools/e2e/testbed", "engine/api tools/netlab/...", outside},
	{"tools/netlab", "", "a lab knows only namespaces"},
	{"tools/netlab/backend", "", "a backend is a program of the lab"},
	{"tools/netlab/backend/netlab-backend", "tools/netlab/backend", "a backend is a program of the lab"},
	{"tools/netlab/loadgen", "tools/netlab", outside},
	{"tools/netlab/decap", "", "decap is a leaf"},
	{"tools/pktgen", "cmd/cli tools/pktgen/...", "the generator needs nothing of the product but the frame of its command line"},
	{"tools/pktgen/afxdp", "", "afxdp is a leaf"},
	{"tools/pktgen/bpf", "", "bpf is generated"},
	{"tools/pktgen/capture", "engine/pcap tools/pktgen/frame", outside},
	{"tools/pktgen/clock", "", "clock is a leaf"},
	{"tools/pktgen/flow", "", "flow is a leaf"},
	{"tools/pktgen/frame", "pipeline/packet tools/pktgen/flow", outside},
	{"tools/pktgen/labtest", "tools/netlab tools/pktgen/affinity tools/pktgen/port", outside},
	{"tools/pktgen/affinity", "engine/cpu", outside},
	{"tools/pktgen/port", "engine/xsk tools/pktgen/frame tools/pktgen/affinity", outside},
	{"tools/pktgen/report", "tools/chart tools/pktgen/search tools/pktgen/trial", outside},
	{"tools/pktgen/rx", "tools/pktgen/afxdp tools/pktgen/bpf tools/pktgen/clock tools/pktgen/frame tools/pktgen/affinity tools/pktgen/port", outside},
	{"tools/pktgen/search", "", "search is a leaf"},
	{"tools/pktgen/trial", "tools/pktgen/frame tools/pktgen/affinity tools/pktgen/port tools/pktgen/rx tools/pktgen/tx", outside},
	{"tools/pktgen/tx", "tools/pktgen/afxdp tools/pktgen/bpf tools/pktgen/clock tools/pktgen/flow tools/pktgen/frame tools/pktgen/port", outside},
	{"tools/fuzz", "", "it runs go test"},
	{"tools/leaks", "", "leaks is a leaf"},
	{"tools/pause", "", "pause is a leaf"},
	{"tools/inline", "", "it asks the compiler"},
	{"tools/reference", "", "reference is a leaf"},
	{"tools/soak", "engine/api engine/cpu tools/e2e/testbed tools/netlab/... tools/pause", outside},
	{"tools/survive", "engine/api engine/cpu tools/e2e/testbed tools/netlab/... tools/pause", outside},
	{"tools/testall", "", "it runs before anything else is known to build"},
	{"tools/tidy", "", "it reads files"},
}

const (
	pure    = "the pipeline is pure"
	outside = "tools may use the product, never the other way round"
)

// tests lists what the tests of a directory and of everything below it may import besides.
var tests = []layer{
	{pkg: "bench", may: "bench/... conf pipeline/... tools/..."},
	{pkg: "cmd", may: "engine/... conf/... tools/..."},
	{pkg: "conf", may: "conf/... tools/..."},
	{pkg: "engine", may: "engine/api/apitest engine/enginetest pipeline/... conf/... tools/..."},
	{pkg: "pipeline", may: "pipeline/... tools/..."},
	{pkg: "rings", may: "tools/..."},
	{pkg: "tools", may: "tools/..."},
}
