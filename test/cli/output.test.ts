// What the command prints beside its tables: gaps in the log, the status line; and whether nohup is above it.
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { droppedText } from '../../lib/cli/access-log.ts';
import type { BoundedWriter } from '../../lib/cli/bounded-writer.ts';
import { underNohup } from '../../lib/cli/ending.ts';
import { StatusLine } from '../../lib/cli/status-line.ts';

t.test('a gap in the log', async (t) => {
  t.match(JSON.parse(droppedText(12, 'json')), { time: String, log: { dropped: 12 } });
  t.match(droppedText(12, 'text'), / 12 lines of this log were dropped/);
});

t.test('a terminal that takes nothing gets no status line', async (t) => {
  const written: string[] = [];
  const out = { busy: true, write: (text: string) => written.push(text) };
  const line = new StatusLine(
    { isTTY: true, columns: 0 } as NodeJS.WriteStream,
    out as unknown as BoundedWriter,
    () => 'how things stand',
  );
  await delay(1100);
  t.same(written, []);
  out.busy = false;
  while (written.length === 0) await delay(50);
  t.match(written, [/how things stand$/]);
  line.stop();
});

t.test('nohup', async (t) => {
  t.equal(underNohup('/usr/bin/nohup'), true);
  const { _: command } = process.env;
  delete process.env['_'];
  t.equal(underNohup(undefined, '/nonexistent'), false);
  if (command !== undefined) process.env['_'] = command;
});
