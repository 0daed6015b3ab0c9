// The fuzzers of test/fuzz/, a few seconds each, by the driver there: g++ is what this package is built with, and a
// machine that runs the tests need not have clang. `npm run fuzz` is for longer, by libFuzzer.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { fuzzers } from '../../scripts/fuzzers.ts';
import { root } from '../../scripts/native.ts';

const run = promisify(execFile);
const SEED = '20';
/** Of CPU time. What a client sends to be looked at is the widest door. */
const SECONDS: Readonly<Record<string, number>> = { client_hello: 4, http_head: 4, host_name: 4 };
const SECONDS_OF_OTHERS = 1.5;
/** Beside what the driver makes up. Without it hardly an input would be a hello with extensions. */
const INPUTS: Readonly<Record<string, readonly Buffer[]>> = {
  client_hello: [
    hello('a.test', ['h2']),
    // More than there is room for.
    hello('a'.repeat(300), Array<string>(100).fill('http/1.1')),
  ],
  http_head: [Buffer.from('\0\x09\0GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n', 'latin1')],
};

/** For the fuzzer, which takes three bytes for itself. */
function hello(name: string, protocols: string[]): Buffer {
  const vector = (width: number, body: string): string =>
    (body.length / 2).toString(16).padStart(2 * width, '0') + body;
  const hex = (text: string): string => Buffer.from(text).toString('hex');
  const alpn = protocols.map((protocol) => vector(1, hex(protocol))).join('');
  const extensions = [
    `0000${vector(2, vector(2, `00${vector(2, hex(name))}`))}`,
    `0010${vector(2, vector(2, alpn))}`,
    `002b${vector(2, '0403040303')}`,
    `fe0d${vector(2, '00')}`,
  ].join('');
  const random = '5a'.repeat(32);
  return Buffer.from(`0009010303${random}00000213010100${vector(2, extensions)}`, 'hex');
}

const directory = mkdtempSync(join(tmpdir(), 'original-dst-fuzz-'));
t.teardown(() => rmSync(directory, { recursive: true }));

const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
const FLAGS = [
  '-std=c++17',
  '-g',
  '-O1',
  '-fno-exceptions',
  '-fno-rtti',
  '-no-pie',
  '-fno-pie',
  '-Isrc',
  '-I.',
];
const driver = join(directory, 'driver.o');

function compile(...more: string[]): Promise<unknown> {
  return run('g++', [...FLAGS, ...SANITIZERS, ...more], { cwd: root });
}

await compile('-c', 'test/fuzz/driver/driver.cc', '-o', driver);
for (const { name, source, sources } of fuzzers()) {
  await t.test(name, async (t) => {
    const program = join(directory, name);
    await compile('-fsanitize-coverage=trace-pc', source, ...sources, driver, '-o', program);
    const seconds = String(SECONDS[name] ?? SECONDS_OF_OTHERS);
    const inputs = (INPUTS[name] ?? []).map((input) => input.toString('hex'));
    const env = { ...process.env, ASAN_OPTIONS: 'handle_abort=1' };
    const { stdout } = await run(program, [seconds, SEED, ...inputs], { env });
    const [, tried, kept] = /^(\d+) inputs, (\d+) kept$/m.exec(stdout) ?? [];
    t.ok(Number(tried) > 1000, `${tried} inputs`);
    t.ok(Number(kept) > 5, `${kept} of them reach something new`);
  });
}
