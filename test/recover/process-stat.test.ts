// /proc/PID/stat.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { processStat } from '../../lib/recover/process-stat.ts';

t.test('this process, under a name that looks like other fields', (t) => {
  const { title } = process;
  t.teardown(() => (process.title = title));
  const before = processStat('self')!;
  t.match(before, { pid: process.pid, parent: process.ppid });
  process.title = ') Z 1 (x)';
  t.match(readFileSync('/proc/self/stat', 'latin1'), `${process.pid} () Z 1 (x)) `);
  const { state, ...others } = processStat(process.pid)!;
  t.not(state, 'Z');
  const { state: _, ...known } = before;
  t.same(others, known);
  t.end();
});

t.test('a number that no process has', (t) => {
  // Above the highest that pid_max may be.
  t.equal(processStat(2 ** 22 + 1), undefined);
  t.end();
});
