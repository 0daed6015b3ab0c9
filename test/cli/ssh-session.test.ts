// Which SSH sessions `original-dst` finds, and keeps.
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { keepSessions, sshSessions } from '../../lib/cli/ssh-session.ts';
import { behind, cli } from '../fixtures/cli.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';

const APPLY = ['rules', 'apply', '--port', '15006', '--direction', 'inbound'];

t.test('the environment says all', async (t) => {
  t.same(sshSessions('192.0.2.9 1 192.0.2.1 22'), ['192.0.2.9 1 192.0.2.1 22']);
  t.same(sshSessions(''), []);
});

t.test('a session that the configuration names is the planner’s affair', async (t) => {
  t.equal(keepSessions({ sshConnection: '192.0.2.9 1 192.0.2.1 22' }), undefined);
});

t.test('the kernel’s table of IPv4 connections', async (t) => {
  const line = (local: string, peer: string, state: string) =>
    `   0: ${local} ${peer} ${state} 00000000:00000000\n`;
  const tcp =
    line('010200C0:0016', '090200C0:C350', '01') +
    line('010200C0:0016', '00000000:0000', '0A') + // listens
    line('010200C0:0050', '090200C0:C351', '01'); // another port
  const proc = t.testdir({ net: { tcp } });
  // Written in the byte order of the host: little-endian here, as on all machines that the package has binaries for.
  t.same(sshSessions(undefined, proc), ['192.0.2.9 50000 192.0.2.1 22']);
});

t.test('a parent’s environment that makes no sense', async (t) => {
  const proc = t.testdir({
    [`${process.ppid}`]: { environ: 'SSH_CONNECTION=nonsense\0', status: 'PPid:\t1\n' },
  });
  t.same(sshSessions(undefined, proc), []);
});

t.test('without /proc nothing is found', async (t) => {
  t.same(sshSessions(undefined, '/nonexistent'), []);
});

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  t.test('sudo clears the environment, not that of its parent', async (t) => {
    const sudo = ['sh', '-c', 'env -u SSH_CONNECTION "$@"; exit $?', 'sh'];
    const refused = behind(sudo, APPLY, { SSH_CONNECTION: '203.0.113.9 50000 192.0.2.1 2222' });
    t.equal(refused.status, 1);
    t.match(refused.stderr, /like the one in use, from 203\.0\.113\.9 to 192\.0\.2\.1 port 2222/);
    const elsewhere = behind(sudo, APPLY, { SSH_CONNECTION: '203.0.113.9 50000 192.0.2.3 2222' });
    t.equal(elsewhere.status, 0, 'a session on another host');
  });

  for (const host of ['192.0.2.1', '2001:db8:1::1']) {
    t.test(`an established connection to port 22 of ${host}`, async (t) => {
      t.equal(cli(APPLY).status, 0, 'none yet');
      const accepted: Socket[] = [];
      const sshd = createServer((socket) => accepted.push(socket)).listen(22, '::');
      await once(sshd, 'listening');
      const client = connect({ port: 22, host });
      await once(client, 'connect');
      t.same(sshSessions(undefined), [`${host} ${client.localPort} ${host} 22`]);
      const refused = cli(APPLY);
      t.equal(refused.status, 1);
      t.match(refused.stderr, `from ${host} to ${host} port 22`);
      t.equal(cli([...APPLY, '--exclude-ports', '22']).status, 0);
      t.equal(cli(APPLY, { SSH_CONNECTION: '' }).status, 0, 'there is none to be kept');
      client.destroy();
      for (const socket of accepted) socket.destroy();
      await once(sshd.close(), 'close');
    });
  }
});
