// The commands of an installation, as child processes.
import t from 'tap';
import { runStep } from '../../../lib/rules/install/run.ts';

t.test('a process group of its own, so that Ctrl-C at the terminal does not reach it', async (t) => {
  const { stdout } = await runStep({ why: 'x', command: ['cat', '/proc/self/stat'] });
  const [pid, , , , group, session] = stdout.split(' ');
  t.ok(Number(pid) > 0);
  t.equal(group, pid);
  t.equal(session, pid);
});

t.test('what it says, however much, and how it ended', async (t) => {
  const text = 'größe\n'.repeat(100_000);
  t.same(await runStep({ why: 'x', command: ['cat'], stdin: text }), {
    status: 0,
    stdout: text,
    stderr: '',
  });
  t.same(await runStep({ why: 'x', command: ['sh', '-c', 'echo no >&2; exit 3'] }), {
    status: 3,
    stdout: '',
    stderr: 'no\n',
  });
  t.match(await runStep({ why: 'x', command: ['sh', '-c', 'kill -9 $$'] }), { status: -1 });
  t.match(await runStep({ why: 'x', command: ['true'], stdin: text }), { status: 0 }, 'read or not');
});

t.test('programs that cannot be run', async (t) => {
  t.match(await runStep({ why: 'x', command: ['no-such-program'] }), { status: null });
  t.match(await runStep({ why: 'x', command: ['/'] }), { status: -1 });
});

t.test('ended by the terminal’s signals before it had left the process group', async (t) => {
  const once = 'test -e "$0" && echo done && exit; : >"$0"; kill -INT $$';
  const file = `${t.testdir()}/tried`;
  t.match(await runStep({ why: 'x', command: ['sh', '-c', once, file] }), { status: 0, stdout: 'done\n' });
  t.match(await runStep({ why: 'x', command: ['sh', '-c', 'kill -HUP $$'] }), { status: -1 }, 'not for ever');
});
