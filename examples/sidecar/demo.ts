// `npm run demo:sidecar`: a pod with a workload and the sidecar, the mesh's rules, and a world outside, in namespaces
// of their own. Prints what was sent, what the sidecar wrote down, and whom the far end saw as its client.
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/**
 * setpriv(1) for a user who has no rights but to read: this file may lie below a home that only its owner may enter,
 * as root's is.
 */
const as = (uid: number, gid = uid): string[] => [
  'setpriv',
  `--reuid=${uid}`,
  `--regid=${gid}`,
  '--clear-groups',
  '--inh-caps=+dac_read_search',
  '--ambient-caps=+dac_read_search',
];
const OUTSIDE = ['nsenter', '--net=/run/netns/outside'];
const WORKLOAD = as(1000);

const NETWORK = `
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip link set lo up
ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
ip addr add 10.244.1.2/24 dev eth0
ip -6 addr add fd00:244:1::2/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 10.244.1.1
ip -6 route add default via fd00:244:1::1
ip -n outside addr add 10.244.1.1/24 dev eth0
ip -n outside addr add 198.51.100.10/32 dev eth0
ip -n outside -6 addr add fd00:244:1::1/64 dev eth0 nodad
ip -n outside -6 addr add 2001:db8:51::10/128 dev eth0 nodad
ip -n outside link set lo up
ip -n outside link set eth0 up
`;

/** A child process whose lines are kept. */
class Program {
  readonly child: ChildProcess;
  readonly lines: string[] = [];

  constructor(command: string[], env: NodeJS.ProcessEnv = {}) {
    const [file, ...args] = command as [string, ...string[]];
    this.child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    this.child.stdout!.setEncoding('utf8').on('data', (more: string) => {
      const lines = (text + more).split('\n');
      text = lines.pop()!;
      this.lines.push(...lines);
    });
  }

  async printed(pattern: RegExp, from = 0): Promise<string> {
    for (let attempt = 0; attempt < 500; attempt++) {
      const line = this.lines.slice(from).find((candidate) => pattern.test(candidate));
      if (line !== undefined) return line;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`${pattern} was not printed, but: ${this.lines.join('\n')}`);
  }
}

interface Step {
  title: string;
  from: 'outside' | 'workload';
  /** What curl(1) is asked for. */
  url: string;
  /** The far end's words, or 'refused'. */
  answer: { REDIRECT: string; TPROXY: string };
  /** What the sidecar's log must say, if it has part in this. */
  log?: { REDIRECT: RegExp; TPROXY: RegExp };
}

const both = <T>(value: T): { REDIRECT: T; TPROXY: T } => ({ REDIRECT: value, TPROXY: value });
const inbound = (destination: string): { REDIRECT: RegExp; TPROXY: RegExp } => ({
  REDIRECT: new RegExp(`inbound.*"${destination}","kind":"redirect".*"status":200`),
  TPROXY: new RegExp(`inbound.*"${destination}","kind":"tproxy".*"status":200`),
});

const STEPS: Step[] = [
  {
    title: 'into the pod, IPv4',
    from: 'outside',
    url: 'http://10.244.1.2:8080/hello',
    answer: { REDIRECT: '10.244.1.2 8080 saw 127.0.0.6', TPROXY: '10.244.1.2 8080 saw 10.244.1.1' },
    log: inbound('10.244.1.2:8080'),
  },
  {
    title: 'into the pod, IPv6',
    from: 'outside',
    url: 'http://[fd00:244:1::2]:8080/hello',
    answer: { REDIRECT: 'fd00:244:1::2 8080 saw ::6', TPROXY: 'fd00:244:1::2 8080 saw fd00:244:1::1' },
    log: inbound('\\[fd00:244:1::2\\]:8080'),
  },
  {
    title: 'into the pod, excluded port',
    from: 'outside',
    url: 'http://10.244.1.2:15090/metrics',
    answer: both('10.244.1.2 15090 saw 10.244.1.1'),
  },
  {
    title: 'out of the pod, IPv4',
    from: 'workload',
    url: 'http://198.51.100.10/hello',
    answer: both('198.51.100.10 80 saw 10.244.1.2'),
    log: both(/outbound.*"198\.51\.100\.10:80","kind":"redirect".*"status":200/),
  },
  {
    title: 'out of the pod, IPv6',
    from: 'workload',
    url: 'http://[2001:db8:51::10]/hello',
    answer: both('2001:db8:51::10 80 saw fd00:244:1::2'),
    log: both(/outbound.*"\[2001:db8:51::10\]:80","kind":"redirect".*"status":200/),
  },
  {
    title: 'out of the pod, the server speaks first',
    from: 'workload',
    url: 'tcp://198.51.100.10:5432',
    answer: both('198.51.100.10 5432 saw 10.244.1.2'),
    log: both(/outbound.*"198\.51\.100\.10:5432","kind":"redirect","protocol":"tcp".*"end":"end"/),
  },
  {
    title: 'within the pod, not captured',
    from: 'workload',
    url: 'http://10.244.1.2:8080/hello',
    answer: both('10.244.1.2 8080 saw 10.244.1.2'),
  },
  {
    title: 'at the sidecar itself: a loop',
    from: 'workload',
    url: 'http://10.244.1.2:15001/',
    answer: both('refused'),
    log: both(/outbound.*"10\.244\.1\.2:15001","kind":"direct","failed":.*would come back here/),
  },
  {
    title: 'another host’s port 15001: no loop',
    from: 'workload',
    url: 'http://198.51.100.10:15001/',
    answer: both('refused'),
    log: both(/outbound.*"198\.51\.100\.10:15001","kind":"redirect","failed":"connect ECONNREFUSED/),
  },
];

async function ask(from: Step['from'], url: string): Promise<string> {
  const { protocol, hostname, port } = new URL(url);
  const client =
    protocol === 'tcp:'
      ? [process.execPath, here('demo-peer.js'), 'client', hostname, port]
      : ['curl', '--silent', '--show-error', '--globoff', '--noproxy', '*', '--max-time', '5', url];
  const [file, ...args] = [...(from === 'outside' ? OUTSIDE : WORKLOAD), ...client] as [string, ...string[]];
  return run(file, args).then(
    ({ stdout }) => stdout,
    () => 'refused',
  );
}

let failures = 0;

function check(ok: boolean, ...lines: string[]): void {
  if (!ok) failures++;
  for (const [i, line] of lines.entries())
    console.log(`${i === 0 ? (ok ? '  ok   ' : '  FAIL ') : '       '}${line}`);
}

async function showMode(mode: 'REDIRECT' | 'TPROXY'): Promise<void> {
  const user = mode === 'TPROXY' ? as(0, 1337) : as(1337);
  console.log(`\n${mode}: the sidecar runs as user ${mode === 'TPROXY' ? 0 : 1337}, group 1337`);
  await run(process.execPath, [here('init.js')], { env: { ...process.env, INTERCEPTION_MODE: mode } });
  const proxy = new Program([...user, process.execPath, here('sidecar.js')], {
    INTERCEPTION_MODE: mode,
    DRAIN_SECONDS: '5',
  });
  await proxy.printed(/"event":"ready"/);

  for (const { title, from, url, answer, log } of STEPS) {
    const before = proxy.lines.length;
    const said = await ask(from, url);
    const line = log && (await proxy.printed(log[mode], before).catch(() => '(nothing to the point)'));
    const noted = line ?? (proxy.lines.length === before ? '(not captured)' : proxy.lines.at(-1)!);
    const ok = said === answer[mode] && (log ? log[mode].test(noted) : noted === '(not captured)');
    check(
      ok,
      title,
      `sent     ${from}: ${url}`,
      `sidecar  ${noted.replace(/^\{"time":"[^"]*",/, '{')}`,
      `far end  ${said}`,
    );
  }

  const stats = await ask('outside', 'http://10.244.1.2:15020/metrics');
  const counted = /original_dst_connections_total\{server="inbound",kind="(redirect|tproxy)"\} 2\n/.exec(
    stats,
  )?.[0];
  check(
    counted !== undefined,
    'statistics',
    ...stats.split('\n').filter((line) => /^original_dst_connections_(total|refused_total)/.test(line)),
  );

  const slow = ask('outside', 'http://10.244.1.2:8080/slow');
  for (let attempt = 0; attempt < 100; attempt++) {
    if (/^sidecar_open 1$/m.test(await ask('outside', 'http://10.244.1.2:15020/metrics'))) break;
  }
  const exited = once(proxy.child, 'exit');
  proxy.child.kill('SIGTERM');
  await proxy.printed(/"event":"draining"/);
  const ready = await ask('outside', 'http://10.244.1.2:15020/ready');
  const late = await ask('outside', 'http://10.244.1.2:8080/late');
  const finished = await slow;
  const [code] = (await exited) as [number];
  check(
    code === 0 && finished === STEPS[0]!.answer[mode] && late === 'refused' && ready === 'draining\n',
    'graceful drain',
    `a request begun before SIGTERM: ${finished}`,
    `one after it: ${late}; /ready: ${ready.trim()}; exit status ${code}`,
  );
}

async function inside(): Promise<void> {
  execFileSync('sh', ['-e'], { input: NETWORK, stdio: ['pipe', 'inherit', 'inherit'] });
  const workload = new Program([...WORKLOAD, process.execPath, here('demo-peer.js'), 'workload']);
  const remote = new Program([...OUTSIDE, process.execPath, here('demo-peer.js'), 'remote']);
  try {
    await Promise.all([workload.printed(/ready/), remote.printed(/ready/)]);
    await showMode('REDIRECT');
    await showMode('TPROXY');
  } finally {
    workload.child.kill();
    remote.child.kill();
  }
  console.log(failures === 0 ? '\nall as it should be' : `\n${failures} failed`);
  process.exit(failures === 0 ? 0 : 1);
}

/** How to make namespaces with several users in them, here: as root, or with the ranges of newuidmap(1). */
function unshareOptions(): string[] | undefined {
  const ways = [['-nm'], ['-Unm', '--map-root-user', '--map-auto']];
  return ways.find((way) => spawnSync('unshare', [...way, ...as(1337), 'true']).status === 0);
}

if (process.argv[2] === 'inside') {
  await inside();
} else {
  const options = unshareOptions();
  if (options === undefined) {
    console.error(
      'needs root, or newuidmap (Debian: uidmap) and a range for this user in /etc/subuid and /etc/subgid: the rules match user 1337',
    );
    process.exit(1);
  }
  const args = [
    ...options,
    '--kill-child',
    '--propagation',
    'private',
    process.execPath,
    here('demo.js'),
    'inside',
  ];
  const child = spawn('unshare', args, { stdio: 'inherit' });
  const [code] = (await once(child, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}
