// Writes docs/errors.md: every code that lib/ gives, where it comes from, what it means and what to do. A code without
// a line below, or a line without a code, is an error here, so the page is whole by construction.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { root } from '../native.ts';

/** What happened, and what to do. */
const CODES: Record<string, readonly [string, string]> = {
  ERR_ADDRESS_TAKEN: ['There is a virtual listener at that address already', '`remove()` the other first'],
  ERR_ALIAS_DIALLED: [
    'A connection came to an alias of an eBPF capture that no captured program has made: the `cause` of `unknown`',
    'an alias is no destination: refuse it',
  ],
  ERR_ALIAS_REUSED: [
    'The alias of an eBPF capture that this came to stands for another destination by now: the `cause` of `unknown`',
    'raise `destinations`, or accept sooner',
  ],
  ERR_ALREADY_INTERCEPTED: [
    '`intercept()` was called twice on one server',
    'call it once, where the server is made',
  ],
  ERR_BINDING_NOT_LOADED: [
    'The native binary could not be loaded',
    'reinstall with install scripts allowed, or compile: `npx node-gyp rebuild` in the package’s folder',
  ],
  ERR_CAPTURE_CGROUP: [
    'The cgroup does not exist, cgroup v2 is not mounted, or this is a cgroup namespace',
    'see the message: it says which, and the command that helps',
  ],
  ERR_CAPTURE_MATCH: [
    'A flow of an eBPF capture asks for what is not known at connect(2), or there are too many flows',
    'match by ports and destinations; use rules for sources and interfaces',
  ],
  ERR_CAPTURE_PINNED: [
    'What is pinned at that path belongs to another cgroup, or was made with another version or number of destinations',
    'remove the directory, which ends that capture',
  ],
  ERR_CAPTURE_SELF: [
    'The proxy is in the cgroup that it would capture: its own dials would come back',
    'move it to another cgroup, or exempt its uid, its mark or a cgroup of its own',
  ],
  ERR_CAPTURE_STACKED: [
    'Another BPF program is attached at connect(2) or the like of this cgroup or one above',
    'see whose it is with `bpftool cgroup tree`; end it, or capture another cgroup',
  ],
  ERR_CAPTURE_SETUP: [
    'The namespace of a capture could not be set up: a tool or a part of the kernel is missing',
    'the hint has the command',
  ],
  ERR_CLIENT_GONE: [
    'The client reset its connection before `decide` had an answer, or closed it before `inspect()` had one',
    'stop deciding: it is the reason of an aborted `signal`',
  ],
  ERR_DECISION_TIMEOUT: [
    '`decide` had no answer in time; the client was sent RST',
    'answer sooner, or raise `decisionTimeout`',
  ],
  ERR_DRAIN_ABORTED: [
    'The signal of `drain()` was aborted with connections left, as many as `left` says; they go on',
    '`destroy()` ends them; or wait for longer',
  ],
  ERR_DLOPEN_DISABLED: [
    'Node was started to load no addons: the `cause` of `ERR_BINDING_NOT_LOADED`',
    'start it without `--no-addons`; with `--permission` add `--allow-addons`',
  ],
  ERR_DNS_NO_ANSWER: [
    'A resolver has not answered; the client of the DNS forwarder is told SERVFAIL',
    'see whether the resolver can be reached',
  ],
  ERR_DOCTOR_INSIDE: [
    'The diagnosis of another network namespace did not run to its end',
    'let whoever is root in there read this package and run node',
  ],
  ERR_EGRESS_DENIED: [
    'The egress policy does not let the dial go there',
    'extend `allow`, or shorten `deny`',
  ],
  ERR_INSPECT_UNREADABLE: [
    '`inspect()` was given a socket that somebody reads already, or one with an encoding',
    'call it ahead of the first `data` listener or `pipe()`, and without `setEncoding()`',
  ],
  ERR_INTERCEPT_LOOP: [
    'The dial would come back to this program, or has come back',
    'exempt the proxy’s own connections in the rules: by user, group, mark or cgroup',
  ],
  ERR_INVALID_ARG_TYPE: ['An argument is of the wrong type', 'see the message'],
  ERR_INVALID_ARG_VALUE: [
    'Two arguments contradict each other, or there is no such option',
    'see the message',
  ],
  ERR_INVALID_FD_TYPE: ['The descriptor is not of the kind that the call is for', 'see the message'],
  ERR_LISTEN_FDS: [
    '`original-dst proxy` was passed several sockets by its service manager, none of them by the name `proxy`',
    'set `FileDescriptorName=proxy` in the socket unit that is the proxy’s',
  ],
  ERR_MAX_CONNECTIONS: [
    'A server had as many connections as `maxConnections` allows: counted in `stats.refused`, never thrown',
    'raise the limit, or find out why so many are open',
  ],
  ERR_MAX_PENDING: [
    'As many connections as `maxPending` allows were waiting for `decide`: counted in `stats.refused`, never thrown',
    'let `decide` answer sooner',
  ],
  ERR_MAX_PER_CLIENT: [
    'A client had as many connections as `maxPerClient` allows: counted in `stats.refused`, never thrown',
    'raise the limit if that client is right',
  ],
  ERR_MAX_RATE_PER_CLIENT: [
    'A client made more connections in a second than `maxRatePerClient` allows: counted in `stats.refused`, never thrown',
    'raise the limit if that client is right',
  ],
  ERR_METRICS_CLIENT_MISSING: [
    '`--metrics` needs a package that is not installed',
    '`npm install prom-client`',
  ],
  ERR_NAMESPACE_CLOSED: ['The `Namespace` was closed before it was used', 'close it later'],
  ERR_NAMESPACE_TOOL_MISSING: [
    'There is no nsenter or unshare to enter a namespace by',
    'install util-linux',
  ],
  ERR_NAMESPACE_UNAVAILABLE: [
    'No network namespace can be made by this user on this machine',
    'the hint has the command that allows it',
  ],
  ERR_NAME_REFUSED: [
    'A name that is to be dialled is no host name, or leads only to addresses that names must not lead to',
    'nothing, if it is an attack; dial by address what is meant to be reached',
  ],
  ERR_OUT_OF_RANGE: ['An argument is outside of what is allowed', 'see the message'],
  ERR_POLICY_RULE: [
    'A rule of a `NamePolicy` cannot be read',
    'write `example.com`, `*.example.com:443`, `10.0.0.0/8:22` or `[2001:db8::]:443/tls`',
  ],
  ERR_PROXY_AUTH: [
    'The proxy that was to connect wants a password, or does not take this one; `proxyStatus` is its code',
    'give its `username` and `password`',
  ],
  ERR_PROXY_HEADER: [
    'A connection of a peer that must send a PROXY protocol header had none, a bad one, or was too slow; it was sent RST',
    'put only proxies that send one into `proxyProtocol.from`',
  ],
  ERR_PROXY_PROTOCOL: [
    'What the proxy answered is not of its protocol, is cut off or has no end',
    'see whether it speaks that protocol, at that port',
  ],
  ERR_PROXY_REFUSED: [
    'The proxy has not connected; `proxyStatus` is its code',
    'see the message: the destination or the proxy’s own rules',
  ],
  ERR_PROXY_TIMEOUT: ['The proxy had not connected in time', 'raise `handshakeTimeout`'],
  ERR_RELAY_BUSY: ['The socket is part of a relay already', 'give each socket to one relay'],
  ERR_RELAY_DECODED: [
    '`setEncoding()` was called on the socket',
    'do not call it on a socket that is to be relayed',
  ],
  ERR_RELAY_NO_FD: [
    'The socket is not connected, or is no socket of the system',
    'connect it first, or `engine: "any"`',
  ],
  ERR_RELAY_TLS: ['A TLS socket’s bytes exist only in JavaScript', '`engine: "any"` lets streams move them'],
  ERR_RULES_ADDRESS: [
    'An address or prefix cannot be read',
    'write `10.0.0.0/8`, `192.0.2.1` or `2001:db8::/32`',
  ],
  ERR_RULES_BRIDGE: [
    'br_netfilter keeps what comes in by a bridge from TPROXY',
    '`redirect`, interfaces that are no bridges, or `sysctl -w net.bridge.bridge-nf-call-iptables=0`',
  ],
  ERR_RULES_BUSY: ['Somebody else has been changing rules here for a minute', 'wait, or see who it is'],
  ERR_RULES_CGROUP: [
    'A cgroup path cannot be used',
    'write it from below the mount point: `system.slice/proxy.service`',
  ],
  ERR_RULES_COMMAND: ['A tool refused a step', 'the message has what it said; what was there before is back'],
  ERR_RULES_CONTRADICTION: [
    'Two settings exclude each other, so that nothing could match',
    'see the message',
  ],
  ERR_RULES_EMPTY: ['The configuration captures nothing', 'give a direction, or DNS'],
  ERR_RULES_FOREIGN: [
    'A table, chain or route of that name is somebody else’s',
    'choose another `name`, or remove it',
  ],
  ERR_RULES_HELD: [
    'Rules of that name belong to a process that runs (`pid`)',
    'end it, choose another name, or `takeOver`',
  ],
  ERR_RULES_INTERFACE: [
    'An interface name cannot be one',
    'at most 15 bytes, without slash or space; `*` at the end',
  ],
  ERR_RULES_LOOP: ['The rules would capture the proxy’s own connections', 'fill in `exempt`'],
  ERR_RULES_NAME: ['The name of a plan cannot be used', 'lower-case letters, digits, `-` and `_`'],
  ERR_RULES_OPTION: ['An option is unknown, or has no such value', 'see the message'],
  ERR_RULES_OVERLAP: ['Entries of one list overlap', 'name every address and port once'],
  ERR_RULES_PERMISSION: ['Installing rules is not allowed', 'CAP_NET_ADMIN in this network namespace'],
  ERR_RULES_PORT: ['A port or a range of ports cannot be read', 'write `80` or `8000-8999`'],
  ERR_RULES_SSH: [
    'The rules would cut the SSH session that you sit in',
    'exclude port 22 or the client’s address',
  ],
  ERR_RULES_TOOL_MISSING: ['nft, iptables or ip is not installed', 'install it'],
  ERR_RULES_UNREADABLE: ['What is installed cannot be read with certainty', 'nothing was done; see the hint'],
  ERR_SERVER_ALREADY_LISTEN: ['`listen()` was called twice', 'make a new server'],
  ERR_SERVER_NOT_RUNNING: [
    '`close()` of a server that does not listen, or the server was destroyed',
    'nothing to be done: it is closed',
  ],
  ERR_TRANSPARENT_SHARED: [
    'The listening socket belongs to the cluster’s primary',
    '`exclusive: true`, or `cluster.schedulingPolicy = cluster.SCHED_NONE`',
  ],
  ERR_UNKNOWN_DESTINATION: [
    'Nobody knows where it was going: of a connection that is to be dialled on `cause` says why; a datagram came without the control message that says so',
    '`unknown: "reset"`; for a datagram nothing',
  ],
  ERR_UNSUPPORTED_PLATFORM: [
    'Not Linux',
    'importing works everywhere; guard the calls with `process.platform`',
  ],
  ERR_UNSUPPORTED_RUNTIME: [
    'Bun or Deno would do something else than asked',
    '`createRelayServer`, or Node.js',
  ],
};

/** Codes of system calls that are worth a line of their own. */
const SYSTEM: readonly (readonly [string, string, string])[] = [
  [
    '`EPERM` (IP_TRANSPARENT, SO_MARK)',
    'The right is missing',
    'grant CAP_NET_ADMIN; in a container add NET_ADMIN',
  ],
  ['`EADDRINUSE` (bind)', 'The client’s port is taken', '`preserveSource: true`, or `portFallback`'],
  ['`EADDRNOTAVAIL` (bind)', 'Not an address of this host', '`transparent: true` or `freebind: true`'],
  [
    '`ETIMEDOUT` of a dial with a foreign source',
    'The answers do not come back here',
    'route them; see `doctor`',
  ],
  ['`EMFILE`', 'No descriptor is left', '`ulimit -n`; a relay holds two'],
];

/** Codes found in the sources, each with the folders or files of lib/ that give it. */
function sources(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const files = (readdirSync(join(root, 'lib'), { recursive: true }) as string[]).filter((name) =>
    name.endsWith('.ts'),
  );
  for (const file of files.sort()) {
    for (const [, code] of readFileSync(join(root, 'lib', file), 'utf8').matchAll(/'(ERR_[A-Z_]+)'/g)) {
      const places = found.get(code!) ?? new Set();
      found.set(code!, places.add(file.split('/')[0]!.replace('.ts', '')));
    }
  }
  return found;
}

/** The page, as it must be. */
export async function errorsPage(): Promise<string> {
  const found = sources();
  const unexplained = [...found.keys()].filter((code) => !(code in CODES));
  const unused = Object.keys(CODES).filter((code) => !found.has(code));
  if (unexplained.length > 0)
    throw new Error(`scripts/docs/errors.ts has no line for ${unexplained.join(', ')}`);
  if (unused.length > 0) throw new Error(`nothing in lib/ gives ${unused.join(', ')}`);
  const rows = [...found.keys()]
    .sort()
    .map((code) => `| \`${code}\` | ${[...found.get(code)!].join(', ')} | ${CODES[code]!.join(' | ')} |`);
  const text = `# Errors

Errors are Node's system errors (\`code\`, negative \`errno\`, \`syscall\`, \`address\`, \`port\`) or have a stable code of this
package. Both have a \`hint\` where something can be done, and the hint is part of the message.

What the network does to a connection is no error of the package: a destination that is not known for certain is
\`{ kind: 'unknown', cause }\`, and the [causes](interception.md#how-the-answer-is-found) are explained there.

## Codes of this package

| Code | From | What happened | What to do |
| --- | --- | --- | --- |
${rows.join('\n')}

## System calls

| Code | What happened | What to do |
| --- | --- | --- |
${SYSTEM.map((row) => `| ${row.join(' | ')} |`).join('\n')}

[\`original-dst doctor\`](doctor.md) explains an environment.

<!-- Made by \`npm run docs\` (scripts/docs/errors.ts). -->
`;
  const file = join(root, 'docs/errors.md');
  return format(text, { ...(await resolveConfig(file)), filepath: file });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(join(root, 'docs/errors.md'), await errorsPage());
}
