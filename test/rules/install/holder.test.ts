// Rules that belong to a process: nobody else changes or removes them while it runs.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { apply, applyCommands, remove, removeCommands, verify } from '../../../lib/rules/index.ts';
import { heldByAnother, thisProcess } from '../../../lib/rules/install/holder.ts';
import { inNamespace, sh } from '../../fixtures/netns.ts';
import { BACKENDS, everything, failure, redirect } from '../../fixtures/rule-foreign.ts';
import { shell } from '../../fixtures/rule-shell.ts';

const HOLDER = fileURLToPath(new URL('../../fixtures/programs/rule-holder.js', import.meta.url));

t.test('a process and those that are not it', async (t) => {
  const me = thisProcess();
  t.equal(me.pid, process.pid);
  t.equal(me.namespace, statSync('/proc/self/ns/pid').ino);
  t.equal(heldByAnother(undefined, 'x'), undefined, 'nobody');
  t.equal(heldByAnother(me, 'x'), undefined, 'this one');
  const stat = (pid: number): string[] => {
    const line = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return line.slice(line.lastIndexOf(')') + 2).split(' ');
  };
  const start = Number(stat(process.ppid)[19]);
  const other = { ...me, pid: process.ppid, start };
  t.match(heldByAnother(other, 'x'), {
    code: 'ERR_RULES_HELD',
    pid: process.ppid,
    message: /process \d+ holds the rules called x: \S/,
  });
  t.equal(heldByAnother({ ...other, start: start + 1 }, 'x'), undefined, 'a later process of that number');
  t.equal(heldByAnother({ ...other, namespace: 1 }, 'x'), undefined, 'of another pid namespace');
  // Python waits for no child unless it is told to; a shell may.
  const script = 'import os, time\npid = os.fork()\nif pid: print(pid, flush=True); time.sleep(60)';
  const zombie = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = Number((await once(zombie.stdout, 'data'))[0]);
  while (stat(pid)[0] !== 'Z') await sleep(1);
  const ended = { ...other, pid, start: Number(stat(pid)[19]) };
  t.equal(heldByAnother(ended, 'x'), undefined, 'one that has ended');
  zombie.kill();
  while (existsSync(`/proc/${pid}`)) await sleep(1);
  t.equal(heldByAnother(ended, 'x'), undefined, 'and that nobody remembers');
});

await inNamespace(t, import.meta.url, async () => {
  const run = shell(t);
  const start = async (plan: unknown): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [HOLDER, JSON.stringify(plan)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'] },
    });
    await once(child.stdout, 'data');
    return child;
  };
  const kill = async (child: ChildProcess): Promise<void> => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };

  t.test('held by another process', async (t) => {
    for (const plan of [redirect, everything]) {
      const child = await start(plan);
      const before = sh('nft list ruleset');
      for (const backend of BACKENDS) {
        for (const attempt of [
          () => apply(redirect, { run, backend }),
          () => applyCommands(everything, { run, backend }),
          () => apply(everything, { run, backend, hold: true }),
          () => remove('all', { run }),
          () => removeCommands('all', { run }),
        ]) {
          const error = await failure(attempt());
          t.match(error, {
            code: 'ERR_RULES_HELD',
            pid: child.pid,
            message: new RegExp(`process ${child.pid} .*rule-holder`),
            hint: /takeOver/,
          });
        }
      }
      t.equal(await verify(plan, { run }), undefined, 'looking is free');
      t.equal(sh('nft list ruleset'), before, 'nothing was touched');
      await kill(child);
      t.equal(await remove('all', { run }), true, 'one that was killed holds nothing');
    }
  });

  t.test('taken over', async (t) => {
    const child = await start(redirect);
    await apply(everything, { run, takeOver: true, hold: true });
    t.equal(await verify(everything, { run }), undefined);
    await apply(redirect, { run, hold: true });
    await kill(child);
    const second = await start({ ...redirect, name: 'second' });
    t.equal(await remove('second', { run, takeOver: true }), true);
    await kill(second);
    t.equal(await remove('all', { run }), true, 'a holder may remove its own');
    for (const option of ['hold', 'takeOver'])
      t.match(await failure(apply(redirect, { run, [option]: 1 })), { code: 'ERR_INVALID_ARG_TYPE' });
  });

  for (const backend of BACKENDS) {
    t.test(`${backend}: a hold is given up by applying without it`, async (t) => {
      const record = (): string => sh('nft list ruleset; iptables-save');
      // With a table `filter` of somebody else's, so that the holder is all that there is to record.
      sh(
        'iptables -A INPUT -j ACCEPT; iptables -t nat -A OUTPUT -j ACCEPT; ip6tables -t nat -A OUTPUT -j ACCEPT',
      );
      await apply(redirect, { run, backend, hold: true });
      t.match(record(), /held \d+ \d+ \d+/);
      await apply(redirect, { run, backend, hold: true });
      t.equal(await verify(redirect, { run, backend }), undefined);
      await apply(redirect, { run, backend });
      t.notMatch(record(), /held|record/);
      t.equal(await verify(redirect, { run, backend }), undefined);
      await remove('all', { run });
      sh('nft flush ruleset');
    });
  }
});
