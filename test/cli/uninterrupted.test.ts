// Signals wait until what was begun is done.
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { uninterrupted } from '../../lib/cli/uninterrupted.ts';
import { RunningCli } from '../fixtures/cli.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { traces } from '../fixtures/traces.ts';

t.test('the signal comes again when it is done', async (t) => {
  const arrived: string[] = [];
  const onSignal = (signal: string) => void arrived.push(signal);
  process.on('SIGHUP', onSignal);
  t.teardown(() => process.off('SIGHUP', onSignal));
  const before = process.listenerCount('SIGINT');
  const failed = uninterrupted(async () => {
    process.kill(process.pid, 'SIGHUP');
    while (arrived.length < 1) await delay(10);
    throw new Error('failed');
  });
  await t.rejects(failed, /failed/);
  while (arrived.length < 2) await delay(10); // or the test times out
  t.equal(await uninterrupted(async () => 7), 7);
  t.equal(process.listenerCount('SIGINT'), before);
});

await inNamespace(t, import.meta.url, async () => {
  t.test('rules apply, and Ctrl-C in the middle of it', async (t) => {
    const before = traces();
    // A back-end that takes its time.
    sh(`cp /usr/sbin/nft /run/nft
      printf '#!/bin/sh\\n>/run/begun\\nsleep 0.5\\nexec /run/nft "$@"\\n' >/run/slow; chmod +x /run/slow
      mount --bind /run/slow /usr/sbin/nft`);
    const args = ['rules', 'apply', '--port', '1', '--mode', 'tproxy', '--exempt-mark', '7', '--yes'];
    const applying = new RunningCli(t, args);
    for (;;) {
      if (sh('test -e /run/begun && echo yes || true') !== '') break;
      await delay(20);
    }
    applying.child.kill('SIGINT');
    t.equal(await applying.ended, 'SIGINT');
    sh('umount /usr/sbin/nft');
    const verify = new RunningCli(t, ['rules', 'verify', ...args.slice(2, -1)]);
    t.equal(await verify.ended, 0, 'all is there');
    const remove = new RunningCli(t, ['rules', 'remove', '--yes']);
    t.equal(await remove.ended, 0);
    t.equal(traces(), before);
  });
});
