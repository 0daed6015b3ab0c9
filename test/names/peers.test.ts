// `npm run test:peers`: other people's clients and servers behind real rules, allowed and denied by name. Not part of the
// suite, which has stand-ins for them: it installs several packages, two of them large.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { answers } from '../fixtures/daemon.ts';
import { createRelayServer, type FirstBytes, inspectQuic, NamePolicy, NameTable } from '../../lib/index.ts';
import { apply, planRules, remove } from '../../lib/rules/index.ts';
import { makeCertificate } from '../fixtures/certificate.ts';
import { startForwarder } from '../fixtures/dns-forwarder.ts';
import { response, testResolver } from '../fixtures/dns-resolver.ts';
import { setUp } from '../fixtures/far-network.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const MARK = 7;
const PORTS = [22, 443, 3306, 5432];

/** What resolvers say of the names: each at an address of its own. */
const ADDRESSES: Record<string, string> = {
  'ok4.test': '198.51.100.7',
  'ok6.test': '2001:db8:6::7',
  'no4.test': '198.51.100.8',
  'no6.test': '2001:db8:6::8',
};

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

/** Starts a server in the far network, and waits until it answers. */
async function serve(t: Test, port: number, command: string, ...args: string[]): Promise<void> {
  const server = spawn('ip', ['netns', 'exec', 'far', command, ...args], { stdio: 'ignore' });
  t.teardown(async () => {
    server.kill('SIGTERM');
    await once(server, 'exit');
  });
  if (await answers(port, '198.51.100.7', { attempts: 200, pause: 100 })) return;
  throw new Error(`${command} does not answer at port ${port}`);
}

/** A host key, a key to log in with, and who may. */
function sshd(): string[] {
  for (const name of ['host', 'login'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, name)]);
  mkdirSync('/run/sshd', { recursive: true });
  const lines = [
    `HostKey ${directory}/host`,
    `AuthorizedKeysFile ${directory}/login.pub`,
    'StrictModes no',
    'UsePAM no',
    'PermitRootLogin yes',
    'PidFile none',
  ];
  return ['/usr/sbin/sshd', '-D', '-f', file('sshd_config', lines.join('\n'))];
}

/** The files of a repository over HTTPS, which is all that `git clone` needs. */
function gitServer(): string[] {
  const repository = join(directory, 'shop.git');
  sh(`
    export HOME=${directory}
    git init -q ${directory}/work; cd ${directory}/work
    git -c user.name=a -c user.email=a@b.test commit -q --allow-empty -m 'first of all'
    git clone -q --bare . ${repository}; git -C ${repository} update-server-info
  `);
  const { key, cert } = makeCertificate('ok4.test');
  const source = `
    const { createServer } = require('node:https');
    const { readFileSync } = require('node:fs');
    createServer({ key: ${JSON.stringify(key)}, cert: ${JSON.stringify(cert)} }, (request, response) => {
      try { response.end(readFileSync(${JSON.stringify(directory)} + request.url.replace(/\\?.*/, ''))); }
      catch { response.writeHead(404).end(); }
    }).listen(443, '::');`;
  return [process.execPath, '-e', source];
}

function mariadb(): string[] {
  const data = join(directory, 'mysql');
  sh(
    `mariadb-install-db --no-defaults --user=root --datadir=${data} --auth-root-authentication-method=normal`,
  );
  const own = [
    '--no-defaults',
    '--user=root',
    `--datadir=${data}`,
    `--socket=${data}/socket`,
    '--bind-address=*',
  ];
  execFileSync('mariadbd', ['--no-defaults', '--user=root', `--datadir=${data}`, '--bootstrap'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    input: "FLUSH PRIVILEGES;\nCREATE USER 'guest'@'%';\n",
  });
  return ['mariadbd', ...own, '--port=3306'];
}

/** As the user that its package makes: it refuses to be root's. */
function postgresql(): string[] {
  const [program] = sh('ls -d /usr/lib/postgresql/*/bin | tail -1').trim().split('\n');
  const data = join(directory, 'postgresql');
  mkdirSync(data);
  chmodSync(directory, 0o755);
  const as = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'];
  sh(`chown postgres ${data}; ${as.join(' ')} ${program}/initdb -D ${data} -A trust`);
  writeFileSync(join(data, 'pg_hba.conf'), 'host all all all trust\n');
  return [...as, `${program}/postgres`, '-D', data, '-k', data, '-h', '*'];
}

type Client = (name: string) => [command: string, ...args: string[]];

/** What each client prints when it has got through. */
const CLIENTS: Record<string, { command: Client; prints: RegExp; protocol: FirstBytes['protocol'] }> = {
  'git over https': {
    command: (name) => ['git', '-c', 'http.sslVerify=false', 'ls-remote', `https://${name}/shop.git`],
    prints: /HEAD/,
    protocol: 'tls',
  },
  ssh: {
    command: (name) => [
      'ssh',
      ...'-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i'.split(' '),
      join(directory, 'login'),
      `root@${name}`,
      'echo $((40+2))',
    ],
    prints: /^42$/m,
    protocol: 'other',
  },
  'MySQL, whose server speaks first': {
    command: (name) => [
      'mariadb',
      '--no-defaults',
      '-h',
      name,
      '-P',
      '3306',
      '-u',
      'guest',
      '-Ne',
      'SELECT 40+2',
    ],
    prints: /^42$/m,
    protocol: 'silent',
  },
  PostgreSQL: {
    command: (name) => ['psql', `host=${name} user=postgres dbname=postgres`, '-Atc', 'SELECT 40+2'],
    prints: /^42$/m,
    protocol: 'other',
  },
  'Node’s fetch': {
    command: (name) => [
      process.execPath,
      '-e',
      `process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
      fetch('https://${name}/shop.git/HEAD').then((a) => a.text()).then(console.log, () => process.exit(1))`,
    ],
    prints: /refs\/heads/,
    protocol: 'tls',
  },
};

/** What a QUIC client sends to a port at which nobody answers. */
async function firstDatagrams(command: string, ...args: string[]): Promise<Buffer[]> {
  const socket = createSocket('udp4');
  const datagrams: Buffer[] = [];
  socket.on('message', (data) => datagrams.push(data));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const at = String(socket.address().port);
  const child = spawn(
    command,
    args.map((arg) => arg.replaceAll('PORT', at)),
    { stdio: 'ignore', detached: true },
  );
  try {
    for (let i = 0; i < 300 && !inspectQuic(datagrams).complete; i++) await delay(100);
  } finally {
    process.kill(-child.pid!, 'SIGKILL');
    socket.close();
  }
  return datagrams;
}

const policy = new NamePolicy({ allow: ['ok4.test', 'ok6.test'] });

interface Seen {
  first: FirstBytes | undefined;
  name: string | undefined;
  allowed: boolean;
}

/** A proxy that decides by name, and rules that lead to it. */
async function capture(
  mode: 'redirect' | 'tproxy',
  timeout: number,
  names: NameTable,
  dnsPort: number,
): Promise<{ seen: Seen[]; stop: () => Promise<void> }> {
  const seen: Seen[] = [];
  const server = createRelayServer({
    transparent: mode === 'tproxy',
    mark: MARK,
    inspect: { timeout },
    decide: (destination, client, first) => {
      if (destination.kind === 'unknown') return 'reset';
      const name = first?.name ?? names.of(destination, client);
      const allowed = policy.test({ ...destination, name });
      seen.push({ first, name, allowed });
      return allowed ? 'relay' : 'reset';
    },
  }).listen();
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const plan = planRules({
    outbound: { mode, port, include: { ports: PORTS }, otherwise: 'reject' },
    dns: { port: dnsPort },
    exempt: { marks: [MARK] },
  });
  await apply(plan);
  const stop = async (): Promise<void> => {
    server.destroy();
    await remove(plan.name);
  };
  return { seen, stop };
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    (await setUp()).kill();
    sh(`
      ip -n far addr add 2001:db8:6::8/128 dev lo nodad
      printf 'nameserver 192.0.2.53\\n' > ${directory}/resolv.conf
      mount --bind ${directory}/resolv.conf /etc/resolv.conf
    `);
    await serve(t, 22, ...(sshd() as [string]));
    await serve(t, 443, ...(gitServer() as [string]));
    await serve(t, 3306, ...(mariadb() as [string]));
    await serve(t, 5432, ...(postgresql() as [string]));

    const resolver = await testResolver(t, (query) => {
      const [{ name, type }] = query.questions as [{ name: string; type: string }];
      const data = ADDRESSES[name];
      const fits = data !== undefined && type === (data.includes(':') ? 'AAAA' : 'A');
      return [response(query, fits ? [{ type, name, ttl: 60, data }] : [])];
    });
    // It asks by IPv4 and connects by IPv6: to the table it would be two clients.
    const names = new NameTable({ perClient: false });
    const { address, port } = resolver;
    const dns = await startForwarder(t, { names, upstream: { address, port }, mark: MARK });

    for (const mode of ['redirect', 'tproxy'] as const)
      await t.test(mode, async (t) => {
        for (const [what, { command, prints, protocol }] of Object.entries(CLIENTS))
          await t.test(what, async (t) => {
            const { seen, stop } = await capture(
              mode,
              protocol === 'silent' ? 300 : 30_000,
              names,
              dns.at.port,
            );
            for (const name of Object.keys(ADDRESSES)) {
              seen.length = 0;
              const [program, ...args] = command(name);
              const { stdout, failed } = await run(program, args, { timeout: 60_000 }).then(
                ({ stdout }) => ({ stdout, failed: false }),
                (error: { stdout: string }) => ({ stdout: error.stdout, failed: true }),
              );
              const allowed = name.startsWith('ok');
              t.equal(failed, !allowed, `${name} ${allowed ? 'gets through' : 'does not'}`);
              t.equal(prints.test(stdout), allowed, stdout);
              t.ok(seen.length > 0, 'it has come by');
              for (const { first, ...judged } of seen) {
                t.same(judged, { name, allowed });
                t.equal(first?.protocol, protocol);
              }
            }
            await stop();
          });
      });

    t.test('QUIC: ngtcp2 and Chromium', async (t) => {
      const ngtcp2 = await firstDatagrams('gtlsclient', '-q', 'localhost', 'PORT', 'https://localhost/');
      t.match(inspectQuic(ngtcp2), {
        protocol: 'quic',
        version: 1,
        name: 'localhost',
        alpn: ['h3'],
        ech: false,
      });
      const chromium = await firstDatagrams(
        'chromium',
        `--user-data-dir=${directory}/chromium`,
        ...'--headless --no-sandbox --disable-gpu --enable-quic'.split(' '),
        '--origin-to-force-quic-on=shop.test:PORT',
        '--host-resolver-rules=MAP shop.test 127.0.0.1',
        'https://shop.test:PORT/',
      );
      t.match(inspectQuic(chromium), {
        protocol: 'quic',
        version: 1,
        name: 'shop.test',
        alpn: ['h3'],
        ech: true,
      });
      t.ok(chromium.length > 1, 'its hello takes more than one datagram');
    });
  },
  { root: true },
);
