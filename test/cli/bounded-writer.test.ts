// What becomes of log lines when their reader is slow, stuck or gone.
import { Writable } from 'node:stream';
import t from 'tap';
import { BoundedWriter } from '../../lib/cli/bounded-writer.ts';

const gap = (count: number): string => `${count} missing\n`;

/** A reader that takes what it is given when told to. */
class Reader extends Writable {
  got = '';
  failure: NodeJS.ErrnoException | undefined;
  #done: (() => void) | undefined;
  constructor() {
    super({ highWaterMark: 10, decodeStrings: false, emitClose: false, autoDestroy: false });
  }
  override _write(chunk: string, _: BufferEncoding, done: (error?: Error) => void): void {
    if (this.failure) {
      done(this.failure);
      return;
    }
    this.#done = () => {
      if (this.failure === undefined) this.got += chunk;
      done(this.failure);
    };
  }
  take(): void {
    const done = this.#done;
    this.#done = undefined;
    done?.();
  }
  async takeAll(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      this.take();
      await new Promise(setImmediate);
    }
  }
}

const failure = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code });

t.test('a slow reader gets everything in order', async (t) => {
  const reader = new Reader();
  const writer = new BoundedWriter(reader, gap);
  for (const line of ['a long first line\n', 'b\n', 'c\n']) writer.write(line);
  t.equal(writer.busy, true);
  await reader.takeAll();
  t.equal(reader.got, 'a long first line\nb\nc\n');
  t.equal(writer.busy, false);
  t.equal(writer.dropped, 0);
  writer.write('d\n');
  t.equal(await writer.flush(1), false, 'it has not taken it');
  const flushed = writer.flush(60_000);
  await reader.takeAll();
  t.equal(await flushed, true);
  t.equal(await writer.flush(60_000), true, 'nothing to wait for');
});

t.test('a stuck one costs a fixed amount, and hears what it missed', async (t) => {
  const reader = new Reader();
  const writer = new BoundedWriter(reader, gap);
  const line = `${'x'.repeat(99)}\n`;
  for (let i = 0; i < 100_000; i++) writer.write(line);
  // One handed to the stream, and the limit.
  const kept = 1 + Math.floor((1 << 20) / line.length);
  t.equal(writer.dropped, 100_000 - kept);
  t.ok(reader.writableLength <= 100, 'nothing has gone into the stream’s own queue');
  writer.write('short\n');
  t.equal(writer.dropped, 100_001 - kept, 'what would fit does not stand before the gap');
  await reader.takeAll();
  writer.write('later\n');
  await reader.takeAll();
  t.equal(reader.got, `${line.repeat(kept)}${100_001 - kept} missing\nlater\n`);
  t.equal(await writer.flush(60_000), true);
});

t.test('what a full disk does not take is counted, and told once there is room', async (t) => {
  const reader = new Reader();
  reader.on('error', () => {});
  const writer = new BoundedWriter(reader, gap);
  reader.failure = failure('ENOSPC');
  for (const line of ['a\n', 'b\n', 'c\nd\n']) {
    writer.write(line);
    await new Promise(setImmediate);
    // As process.stdout does of itself: an error is not its end.
    (reader as unknown as { _undestroy: () => void })._undestroy();
  }
  t.equal(writer.dropped, 4, 'the lines, not those about them');
  reader.failure = undefined;
  writer.write('e\n');
  await reader.takeAll();
  t.equal(reader.got, '4 missing\ne\n');
});

t.test('one that has gone', async (t) => {
  const reader = new Reader();
  const writer = new BoundedWriter(reader, gap);
  writer.write('a long first line\n');
  writer.write('b\n');
  reader.failure = failure('EPIPE');
  reader.take();
  await new Promise(setImmediate);
  writer.write('c\nd\n');
  t.equal(writer.dropped, 4, 'also the one underway');
  t.equal(writer.busy, true);
  t.equal(await writer.flush(60_000), true, 'is not waited for');
});
