// Records that somebody else wrote: root must not be led by them to anything that rules do not change.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import t from 'tap';
import { apply, applyCommands, remove, removeCommands, verify } from '../../../lib/rules/index.ts';
import { runStep } from '../../../lib/rules/install/run.ts';
import type { RunStep, Step } from '../../../lib/rules/types.ts';
import { inNamespace, nft, sh } from '../../fixtures/netns.ts';
import { BACKENDS, everything, failure, redirect } from '../../fixtures/rule-foreign.ts';

await inNamespace(t, import.meta.url, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'victim-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const secret = join(directory, 'secret');
  writeFileSync(secret, 'original\n');
  const up = relative('/proc/sys', secret);

  /** Plants a record, as whoever has CAP_NET_ADMIN here can. */
  const plant = {
    nftables: (comment: string) =>
      nft(`table ip original-dst-all {\nchain record {\nreturn comment "${comment}"\n}\n}\n`),
    iptables: (comment: string) =>
      sh(
        `iptables -N odst-all-record; iptables -A odst-all-record -m comment --comment "${comment}" -j RETURN`,
      ),
  };
  const uproot = {
    nftables: 'nft delete table ip original-dst-all',
    iptables: 'iptables -F odst-all-record; iptables -X odst-all-record',
  };

  for (const backend of BACKENDS) {
    for (const fact of [
      `undo sysctl ${up} pwned`,
      `undo sysctl ${up} 1`,
      `undo sysctl net/ipv4/conf/../../${up} 1`,
      `undo sysctl net/ipv4/conf/%2e%2e/forwarding 1`,
      'undo sysctl net/ipv4/ip_forward 0 1',
      'undo route IPv4 1337 254',
      'undo route -4 1337 133',
      'undo made ip nat;flush',
      'redo',
    ]) {
      t.test(`${backend}, planted: ${fact}`, async (t) => {
        plant[backend](fact);
        const asked: Step[] = [];
        const run: RunStep = (step) => {
          asked.push(step);
          return runStep(step);
        };
        for (const error of [
          await failure(removeCommands('all', { run })),
          await failure(remove('all', { run })),
          await failure(applyCommands(everything, { run })),
          await failure(apply(everything, { run, backend })),
          await failure(verify(everything, { run, backend })),
          await failure(apply(redirect, { run })),
        ]) {
          t.equal(error.code, 'ERR_RULES_UNREADABLE');
          t.match(error.hint, uproot[backend], 'says how to be rid of it');
        }
        t.equal(readFileSync(secret, 'utf8'), 'original\n');
        t.notOk(
          asked.some(({ command }) => command.join(' ').includes('secret')),
          'not even read',
        );
        t.ok(asked.every(({ why }) => why === 'see what is installed'));
        sh(uproot[backend]);
      });
    }
  }

  t.test('an interface with a quote in its name', async (t) => {
    // Forwarding is on for one interface and off for the host: to be restored one by one.
    sh(`ip link add 'a"b;c' type veth peer name 'x\\größe'
      for name in 'a"b;c' 'x\\größe'; do echo 1 > "/proc/sys/net/ipv4/conf/$name/forwarding"; done`);
    for (const backend of BACKENDS) {
      await apply(everything, { backend });
      t.equal(await verify(everything, { backend }), undefined);
      await remove('all');
      for (const name of ['a"b;c', 'x\\größe'])
        t.equal(readFileSync(`/proc/sys/net/ipv4/conf/${name}/forwarding`, 'utf8'), '1\n', name);
    }
  });
});
