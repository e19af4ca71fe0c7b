//! Every bound, in one place, each with its reason.
//!
//! Whatever comes from outside (a file, a peer, a program's output) is measured against these
//! before memory is given to it.

/// A tag is a short label; 64 bytes fit any file-name-like one.
pub const TAG_BYTES: usize = 64;

/// `PATH_MAX` of Linux, less the terminating zero.
pub const PATH_BYTES: usize = 4095;

/// `NAME_MAX` of Linux: one component of a path.
pub const PATH_COMPONENT_BYTES: usize = 255;

/// `MAX_ARG_STRLEN` of Linux: one argument or environment entry.
pub const ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// Arguments and environment together: a quarter of the default 8 MiB stack, where Linux puts them.
pub const ARGUMENTS_TOTAL_BYTES: usize = 2 * 1024 * 1024;

/// Inputs, symlinks and directories of one thunk: the largest link lines known (Chromium) name
/// about 30,000 objects.
pub const THUNK_ENTRIES: usize = 100_000;

/// Outputs of one thunk.
pub const THUNK_OUTPUTS: usize = 4_096;

/// The encoding of one thunk; 100,000 entries of ordinary length fit.
pub const THUNK_BYTES: u64 = 32 * 1024 * 1024;

/// The encoding of one tree (one directory, not what is below it).
pub const TREE_BYTES: u64 = 32 * 1024 * 1024;

/// The encoding of one reduction: `THUNK_OUTPUTS` outputs of some 120 bytes.
pub const REDUCTION_BYTES: u64 = 1024 * 1024;

/// How deep directories nest in a tree.
pub const TREE_DEPTH: usize = 128;

/// What is kept of a job's standard output or error, each; the rest is cut with a notice.
pub const STREAM_BYTES: u64 = 16 * 1024 * 1024;

/// The object that holds such a stream: with the notice, which is less than 64 bytes long.
pub const STREAM_OBJECT_BYTES: u64 = STREAM_BYTES + 64;

/// Standard error of a failed job that is read for the last line; a longer one is not.
pub const REASON_STDERR_BYTES: u64 = 64 * 1024;

/// How much of that line goes into the reason of a failure.
pub const REASON_LINE_CHARS: usize = 200;

/// How long a chain "this output is that thunk's output" may grow before it counts as endless.
pub const REDUCTION_CHAIN: usize = 1_000_000;

/// A job that says nothing about time gets this much wall time: a day.
pub const TIMEOUT_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;

/// No job gets more wall time than this: thirty days.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// One message between an execution engine and its processes: a few numbers, or an error's text.
pub const SANDBOX_MESSAGE_BYTES: usize = 16 * 1024;

/// What the first process of a sandbox is told to build: the entries of a thunk, each with its
/// path in the sandbox and in the store.
pub const SANDBOX_ORDER_BYTES: u64 = 48 * 1024 * 1024;

/// Files and directories in the file system of one sandbox, and in the outputs of one job: each takes a kilobyte
/// of the kernel's memory, or a file of the store. As many as [`TRANSFER_TREE_OBJECTS`].
pub const SANDBOX_FILES: u64 = TRANSFER_TREE_OBJECTS as u64;

/// Mounts in one sandbox: large files outside of trees, trees, and directories of outputs. Twice the objects on
/// the largest link lines known; the kernel lets a namespace have 100,000.
pub const SANDBOX_MOUNTS: usize = 60_000;

/// Small files that an engine keeps in memory, so that headers read by every compile are opened once.
pub const SMALL_FILES_BYTES: usize = 64 * 1024 * 1024;

/// Decoded directories that an engine keeps in memory.
pub const TREES_KEPT: usize = 16 * 1024;

/// Files up to this size are read into memory when they are stored, so that one that is known
/// already costs no write; larger ones are copied piece by piece.
pub const STORE_HELD_BYTES: u64 = 1024 * 1024;

/// One record of the store's log: a reduction or a note, and its header.
pub const LOG_RECORD_BYTES: u64 = REDUCTION_BYTES + 4096;

/// Why something is pinned: a sentence.
pub const PIN_NOTE_BYTES: usize = 1024;

/// Names of what people put into a store that it remembers: a tenth of what a node publishes.
pub const PUTS_KEPT: usize = RECORDS_PUBLISHED / 10;

/// Names that a node is told in one message to have come into its store.
pub const STORED_NAMES: usize = 1024;

/// One offer, gossiped to every member a few times a second: a handful of packets at most.
pub const OFFER_BYTES: u64 = 4096;

/// Resource classes in one offer. A build has one or two; a class is a power of two of memory.
pub const OFFER_CLASSES: usize = 16;

/// Trees that one offer names: toolchains, the few things worth going where they are.
pub const OFFER_TREES: usize = 32;

/// No two offers of one requester come closer than this, so that gossip costs the mesh four
/// messages a second at most, whatever the number of thunks.
pub const OFFER_INTERVAL_US: u64 = 250_000;

/// An offer that still holds is said again this often: gossip loses messages, and members join.
pub const OFFER_REFRESH_US: u64 = 3_000_000;

/// An offer is forgotten after this long: three refreshes lost in a row, and some.
pub const OFFER_LIFE_US: u64 = 10_000_000;

/// Requesters whose offers a worker remembers; further ones wait until one of these ends.
pub const OFFERS_KEPT: usize = 1024;

/// One message on a claim stream: the largest reduction with small objects inlined.
pub const CLAIM_BYTES: u64 = 4 * 1024 * 1024;

/// Leases that one claim stream may hold at once: 256 cores with prefetch, and room.
pub const CLAIM_LEASES: usize = 1024;

/// Trees that a worker says it holds.
pub const CLAIM_HOLDS: usize = 64;

/// Why a thunk failed or came back, on the wire: a few lines.
pub const CLAIM_REASON_BYTES: usize = 4096;

/// Objects that travel inside a lease or a receipt, all together.
pub const CLAIM_INLINE_BYTES: usize = 1024 * 1024;

/// Objects that travel inside one lease or receipt.
pub const CLAIM_INLINE_OBJECTS: usize = 256;

/// Peers that are named as having a lease's inputs.
pub const LEASE_SOURCES: usize = 16;

/// Cores that a worker may say it has, and so leases cores that one claim can bind.
pub const CLAIM_CORES: u32 = 1024;

/// Requesters that a worker serves at once; more would get a core each and their trees for it.
pub const CLAIM_STREAMS: usize = 8;

/// Both ends of a claim stream are heard this often.
pub const HEARTBEAT_US: u64 = 2_000_000;

/// Who has not been heard for this long is gone: four heartbeats lost on a stream that loses
/// nothing, so a machine that swaps is not taken for dead.
pub const SILENCE_US: u64 = 10_000_000;

/// A claim to which the requester has nothing to give is kept this long: steps of one build follow
/// each other within milliseconds, and a new claim costs a gossip message.
pub const CLAIM_LINGER_US: u64 = 3_000_000;

/// Workers that hear the same offer claim within this span of each other, not all at once.
pub const CLAIM_SPREAD_US: u64 = 20_000;

/// A worker with no slot free takes on another requester at most this often, to share with it.
pub const CLAIM_SHARE_US: u64 = 1_000_000;

/// An offer waits this long for more of the same burst.
pub const OFFER_SETTLE_US: u64 = 10_000;

/// A worker that drains waits this long for what runs, then hands it back.
pub const DRAIN_US: u64 = 30_000_000;

/// A worker is ahead of its requesters by this many core-seconds before fair share outweighs the
/// trees it has: about what fetching a toolchain costs.
pub const FAIR_SHARE_US: u64 = 20_000_000;

/// A machine that helps only when idle is held back while others' processes keep more than this
/// many thousandths of a core busy …
pub const OWNER_BUSY_PERMILLE: u32 = 300;

/// … and until it has been no more than this …
pub const OWNER_QUIET_PERMILLE: u32 = 150;

/// … for so long.
pub const OWNER_QUIET_US: u64 = 60_000_000;

/// After a first failure a peer is left alone for this long; doubled by each further one …
pub const BACKOFF_US_MIN: u64 = 1_000_000;

/// … up to this, when it is tried again with a single thunk.
pub const BACKOFF_US_MAX: u64 = 60_000_000;

/// Checks in a row that must agree before a peer's results are checked at random only (BOINC's adaptive
/// replication).
pub const AUDITS_PROVEN: u32 = 10;

/// Peers whose record a node keeps; of those without a claim, the longest unheard goes first.
pub const SCORES_KEPT: usize = 4096;

/// Claim streams that a requester serves at once.
pub const CLAIMANTS: usize = 1024;

/// Values that a requester remembers a claimant to have.
pub const CLAIMANT_HOLDS: usize = 8192;

/// Inputs of a thunk that count for where it runs: trees and the largest files.
pub const LOCALITY_INPUTS: usize = 8;

/// Files below this size count for nothing there: they travel in the lease.
pub const LOCALITY_BYTES_MIN: u64 = 64 * 1024;

/// Thunks among which a placement policy chooses: the cost of one lease stays constant.
pub const LEASE_CHOICE: usize = 32;

/// Cores that a requester's force machine may hand to its lease machine at once: the pool from
/// which the policy chooses. What is beyond it stays in the graph.
pub const LEASE_POOL_CORES: u32 = 65_536;

/// Machine failures of one thunk on peers before force hears of it.
pub const LEASE_MACHINE_FAILURES: u32 = 3;

/// Leases of one thunk lost with their worker before it counts as a failure of the machine: a
/// thunk that ends every machine it meets must not meet them all.
pub const LEASE_LOSSES: u32 = 8;

/// Times that a worker may ask for work and give it back without doing any; from then on each
/// counts as a failure of its machine. Owners come and go more rarely.
pub const HAND_BACKS: u32 = 16;

/// Thunks of which a requester remembers where they failed.
pub const LEASE_AVOIDED: usize = 4096;

/// A lease that waits in a worker's queue for this long, or will as far as usual times tell, may be
/// taken to an idle slot. About what it costs at most to be taken there and find nothing of its own:
/// whoever waits that long before paying it pays twice the least at worst.
pub const LEASE_STALE_US: u64 = 120_000;

/// A lease that has not started after this long is late, whatever its kind: its inputs do not come.
pub const UNSTARTED_US: u64 = 30_000_000;

/// A build whose ready thunks nobody has come for after this long runs one of them itself: an offer
/// is said again, and a claim opened, several times before.
pub const NOBODY_COMES_US: u64 = OFFER_LIFE_US;

/// Messages for a build that its node holds while the build does not read, as when it is suspended: a
/// few for each thunk that it may have given.
pub const SESSION_QUEUE: usize = 4 * LEASE_POOL_CORES as usize;

/// Builds that use one node at once.
pub const SESSIONS: usize = 64;

/// Thunks of a kind that must have ended before one of them can be late.
pub const KIND_RUNS_MIN: u64 = 5;

/// What a thunk of a kind that nobody has seen is expected to take at least, where thunks are ordered by
/// time: longer than most, so that one of it runs early.
pub const UNSEEN_US: u64 = 60_000_000;

/// The longest run that an order by time goes by, a week: whoever ran it may say what it likes.
pub const RUN_US_MAX: u64 = 7 * 24 * 3_600_000_000;

/// Levels of thunks that are told at once.
pub const LEVELS_TOLD: usize = 4_096;

/// Kinds of thunks (by executable) whose run times a requester remembers.
pub const KINDS_KEPT: usize = 256;

/// Nothing is late before it has run for this long: a second copy costs some of that.
pub const LATE_US_MIN: u64 = 1_000_000;

/// One copy of a late run for so many slots, under LATE: the tenth of its authors.
pub const LATE_SLOTS_PER_COPY: u32 = 10;

/// Jobs of so many thunks are small enough to be cloned: the ten of Dolly's authors.
pub const CLONED_JOB_MAX: u64 = 10;

/// A requester that had nothing to run for this long begins another job: within one, what is ready next
/// follows at once.
pub const JOB_PAUSE_US: u64 = 1_000_000;

/// Events that a network holds ready for the node above it; then peers have to wait.
pub const NETWORK_EVENTS: usize = 1024;

/// One certificate: two grants of some 250 bytes, and room.
pub const CERTIFICATE_BYTES: u64 = 1024;

/// One revocation: a grant, and little else.
pub const REVOCATION_BYTES: u64 = 1024;

/// What people call a member.
pub const MEMBER_NAME_BYTES: usize = 64;

/// Clocks of members may differ by this many seconds before a new certificate is not believed.
pub const CLOCK_SKEW_S: u64 = 300;

/// One message of admission: two certificates.
pub const ADMISSION_BYTES: u64 = 4096;

/// Whoever has not been admitted after this long is not waited for: three round trips around the
/// world, and a machine that swaps.
pub const ADMISSION_US: u64 = 5_000_000;

/// Connections that are being admitted at once; further ones are closed. Some 20 KiB each.
pub const ADMISSIONS: usize = 128;

/// Of those, from one address: so that one stranger does not keep all others out.
pub const ADMISSIONS_PER_ADDRESS: usize = 32;

/// Peers and addresses whose refusal was logged; when there are more, all are forgotten, and
/// logged again.
pub const REFUSALS_KEPT: usize = 1024;

/// A ticket, before it is written as text: it should fit a few lines of a terminal.
pub const TICKET_BYTES: u64 = 1024;

/// Addresses of one member: a few interfaces, old and new.
pub const ADDRESSES: usize = 8;

/// One multiaddress; a DNS name has up to 253 bytes.
pub const ADDRESS_BYTES: usize = 300;

/// One roster: as many certificates with addresses as are in it.
pub const ROSTER_BYTES: u64 =
    ROSTER_ENTRIES as u64 * (CERTIFICATE_BYTES + (ADDRESSES * (ADDRESS_BYTES + 1)) as u64);

/// Members, revocations and farewells in one roster.
pub const ROSTER_ENTRIES: usize = 16;

/// Rosters on one stream: all members, revocations and farewells that a node keeps.
pub const ROSTER_MESSAGES: usize =
    (MEMBERS_KEPT + REVOCATIONS_KEPT + FAREWELLS_KEPT) / ROSTER_ENTRIES;

/// Members of which a node knows; when there are more, those it has not met come last.
pub const MEMBERS_KEPT: usize = 4096;

/// Revocations that a node keeps, for ever: without room for one, it is not believed.
pub const REVOCATIONS_KEPT: usize = 4096;

/// Farewells that a node keeps; when there are more, the oldest are forgotten.
pub const FAREWELLS_KEPT: usize = 1024;

/// Tickets that one node has issued and still redeems.
pub const TICKETS_KEPT: usize = 1024;

/// Machines that one ticket lets in at most.
pub const TICKET_USES: u32 = 4096;

/// Peers that a node dials at once.
pub const DIALS: usize = 16;

/// A link that is in use and has been quiet for this long is asked whether it leads to somebody: a
/// line that is slow, or loses a packet, answers before it could matter.
pub const LINK_QUIET_US: u64 = 5_000_000;

/// Who has not answered that after this long is not there: what [`SILENCE_US`] is to a claim.
pub const LINK_PATIENCE_US: u64 = 10_000_000;

/// A link counts as used for this long after it was: what is used now and then is not let out of sight.
pub const LINK_USED_US: u64 = 10_000_000;

/// One of the links that are not in use is asked this often, however many there are: of 64 members,
/// connected to all, each link has its turn every minute and a half.
pub const LINK_TURN_US: u64 = 3_000_000;

/// Streams on which one connection may ask us whether we are there: one, and its successor.
pub const LINK_ASKERS: usize = 2;

/// Connections that a node holds: 74 KiB each.
pub const CONNECTIONS: u32 = 1024;

/// Members that a node connects to by itself; the others when there is something to say to them.
pub const PEERS_WANTED: usize = 64;

/// Streams that wait for their peer to be connected.
pub const OPENS_WAITING: usize = 1024;

/// Requests to the network's loop that wait for it.
pub const NETWORK_COMMANDS: usize = 1024;
/// One list of wants: [`TRANSFER_WANTS`] ranges of some 45 bytes.
pub const TRANSFER_WANT_BYTES: u64 = 16 * 1024;

/// Ranges in one list: the headers of one compile are a few hundred.
pub const TRANSFER_WANTS: usize = 256;

/// Bytes that one list may ask for: a second at a gigabit is a dozen of them.
pub const TRANSFER_WANTED_BYTES: u64 = 8 * 1024 * 1024;

/// What stands before the bytes of a piece: a few numbers, and its proof.
pub const TRANSFER_HEADER_BYTES: u64 = 64 + 32 * TRANSFER_PROOF_HASHES as u64;

/// Hashes of 32 bytes in the proof of a piece: the height of the tree of the largest object,
/// [`TRANSFER_OBJECT_BYTES`], over its pieces.
pub const TRANSFER_PROOF_HASHES: usize = 18;

/// Bytes in one piece: what either end holds of a large object at a time, and what one hash of its
/// [`outboard`](crate::outboard) covers.
pub const TRANSFER_PIECE_BYTES: u32 = 256 * 1024;

/// The largest object that is fetched: a disk image. A name may promise any length.
pub const TRANSFER_OBJECT_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Objects in what one tree reaches, before it is taken for an attempt to fill a disk.
pub const TRANSFER_TREE_OBJECTS: usize = 1_000_000;

/// Objects up to this size come whole and are held in memory until they are checked; larger ones
/// are written as they come, in ranges and from several peers.
pub const TRANSFER_HELD_BYTES: u64 = 1024 * 1024;

/// Small objects asked for at once, together: what one stream holds of them in memory.
pub const TRANSFER_BATCH_BYTES: u64 = 2 * 1024 * 1024;

/// How much of a large object is asked of one peer at a time: enough that asking costs nothing, little
/// enough that peers share the work by their speed.
pub const TRANSFER_PART_BYTES: u64 = 4 * 1024 * 1024;

/// Hashes of 32 bytes, of large objects' trees, that a node keeps to serve them again: 8 MiB, the
/// trees of 32 GiB. That of one larger object is kept until the next one is asked for.
pub const TRANSFER_OUTBOARD_HASHES: usize = 256 * 1024;

/// Packed pieces that a node keeps, because others may ask for the same: what it runs with has some
/// ninety megabytes, and goes to many at once.
pub const TRANSFER_PACKED_BYTES: usize = 8 * 1024 * 1024;

/// Peers from which one large object comes at once.
pub const TRANSFER_SOURCES: usize = 4;

/// Streams on which a node asks at once, and so how many batches it holds in memory.
pub const TRANSFER_STREAMS: usize = 32;

/// Of those, to one peer: enough to hide the way there and back, few enough that each gets on where
/// the way is narrow.
pub const TRANSFER_PER_PEER: usize = 4;

/// Streams that a peer may have open to ask us, idle ones included.
pub const TRANSFER_SERVED_PER_PEER: usize = 16;

/// Streams that all peers together may have open to ask us.
pub const TRANSFER_SERVED: usize = 1024;

/// Streams to one peer that are kept open for the next question.
pub const TRANSFER_KEPT: usize = 4;

/// A stream on which nothing is asked is closed after this long.
pub const TRANSFER_IDLE_US: u64 = 30_000_000;

/// Whoever was asked and has sent nothing for this long is not waited for.
pub const TRANSFER_SILENCE_US: u64 = 10_000_000;

/// One answer takes no longer than this, however steadily it trickles: four megabytes at an eighth
/// of a megabit a second.
pub const TRANSFER_ANSWER_US: u64 = 300_000_000;

/// Who lied about bytes is asked for none for this long.
pub const TRANSFER_LIAR_US: u64 = 3_600_000_000;

/// Inputs up to this size travel in the lease; those above count for where a thunk runs.
pub const LEASE_INLINE_BYTES: u64 = LOCALITY_BYTES_MIN;

/// Inputs or outputs that have not come after this long do not come: a toolchain of 90 MB at a
/// megabit and a half.
pub const FETCH_US: u64 = 600_000_000;

/// Offers of others that are being looked at; what comes meanwhile is lost, as gossip may be.
pub const OFFERS_PENDING: usize = 64;

/// How long a lease waits for a slot until its sandbox is made: one that starts sooner would only compete with what
/// starts now.
pub const PREPARE_AFTER_US: u64 = 100_000;

/// Trees that a node remembers to have, to say so when somebody offers work that needs them.
pub const TREES_HELD: usize = 1024;

/// The encoding of one record: a reduction of about a hundred outputs. Those of more are not
/// published; they are what ran longest, but a message must hold many of the others.
pub const RECORD_BYTES: u64 = 16 * 1024;

/// One message about records, either way: a second at ten megabits.
pub const RECORDS_MESSAGE_BYTES: u64 = 1024 * 1024;

/// Records in one message: some 60 kB of ordinary ones.
pub const RECORDS_BATCH: usize = 256;

/// Names in one question.
pub const RECORDS_ASKED: usize = 512;

/// Members that keep a record, those closest to its key: all but one may leave between two rounds of
/// republication.
pub const RECORD_REPLICAS: usize = 3;

/// A record is forgotten after this long, unless it is published again.
pub const RECORD_LIFE_S: u64 = 24 * 60 * 60;

/// It is published again when so much of its life is over: a third is left for trying.
pub const RECORD_REPUBLISH_S: u64 = 16 * 60 * 60;

/// How far the clocks of two members may be apart.
pub const RECORD_SKEW_S: u64 = 10 * 60;

/// Records that a node publishes; what is beyond is found by asking for other things that were.
pub const RECORDS_PUBLISHED: usize = 100_000;

/// Of those, what one sweep takes along: memory for where each goes.
pub const RECORDS_SWEEP: usize = 1024;

/// Records that a node sends in a second, all peers together: some 25 kB of ordinary ones.
pub const RECORDS_PER_S: u64 = 500;

/// How long a message of records is before the next, however few it holds: what a round has for everybody is no
/// burst.
pub const RECORDS_PAUSE_US: u64 = 40_000;

/// How long what is new waits for more of it.
pub const RECORDS_GATHER_US: u64 = 2_000_000;

/// How long it waits after the round before: a node that has something new all the time still sends few messages.
pub const RECORDS_ROUND_US: u64 = 8_000_000;

/// How long to wait after nobody took a record; doubled by further failures, up to an hour.
pub const RECORDS_RETRY_US: u64 = 10_000_000;

/// Messages of records under way at once, one to a peer.
pub const RECORDS_SENDING: usize = 4;

/// A question about records that is not answered by then is answered with no.
pub const LOOKUP_US: u64 = 2_000_000;

/// How long a name waits for others to be asked for in one question.
pub const LOOKUP_GATHER_US: u64 = 1_000;

/// How much longer it waits for each name that was asked for last, at most [`LOOKUP_PAUSE_US_MAX`]: a build
/// of thousands asks each member some times, not some hundred times while its first thunks start.
pub const LOOKUP_PAUSE_US: u64 = 500;
/// See [`LOOKUP_PAUSE_US`].
pub const LOOKUP_PAUSE_US_MAX: u64 = 100_000;

/// Names that are being looked up at once; those beyond are not.
pub const LOOKUPS: usize = 4096;

/// Of those, such as builds want: the rest is for who has an object, and for people who ask.
pub const RECALLS: usize = LOOKUPS - 256;

/// Names that builds want looked up and that wait until others were: as many as one build may have ready.
pub const RECALLS_WAITING: usize = LEASE_POOL_CORES as usize;

/// Providers that are remembered, and told, of one object.
pub const PROVIDERS: usize = 8;

/// Records that a node keeps for others, and of one publisher.
pub const RECORDS_KEPT: usize = 200_000;
/// See [`RECORDS_KEPT`].
pub const RECORDS_KEPT_PER_PUBLISHER: usize = 50_000;

/// Bytes of them, and of one publisher.
pub const RECORDS_KEPT_BYTES: u64 = 128 * 1024 * 1024;
/// See [`RECORDS_KEPT_BYTES`].
pub const RECORDS_KEPT_PER_PUBLISHER_BYTES: u64 = 32 * 1024 * 1024;

/// Streams on which others may ask this node for records, and one peer.
pub const RECORDS_SERVED: usize = 256;
/// See [`RECORDS_SERVED`].
pub const RECORDS_SERVED_PER_PEER: usize = 8;

/// A stream for records on which nothing is asked is closed after this long.
pub const RECORDS_IDLE_US: u64 = 30_000_000;

/// Peers that a question about the closest ones is answered with: Kademlia's K.
pub const CLOSEST: usize = 20;
