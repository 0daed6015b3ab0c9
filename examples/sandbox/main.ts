// A shell for an agent, or for anything that should talk to a few names only: see README.md.
//
//   node sandbox/main.js names.txt --log calls.jsonl -- bash
import { appendFileSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import { NamePolicy } from 'original-dst';
import { createCapture } from 'original-dst/capture';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { log: { type: 'string', default: '/dev/stderr' } },
});
const [file, command = 'sh', ...args] = positionals;
if (file === undefined) throw new Error('usage: sandbox NAMES [--log FILE] -- COMMAND [ARG…]');

const rules = readFileSync(file, 'utf8')
  .split('\n')
  .map((line) => line.replace(/#.*/, '').trim())
  .filter((line) => line !== '');

function log(event: string, about: object): void {
  appendFileSync(values.log, `${JSON.stringify({ time: new Date().toISOString(), event, ...about })}\n`);
}

// What is not named here gets REFUSED by DNS, RST by TCP and ICMP port unreachable by UDP. Names are looked for in the
// first bytes of each connection too, and count only for an address that DNS has given for them.
await using capture = await createCapture({
  policy: new NamePolicy({ allow: rules }),
  inspect: {},
  processes: true,
});
capture.on('relay', (relay, destination, _client, name, process) => {
  relay.once('close', ({ reason }) => {
    const bytes = { up: relay.bytesToUpstream, down: relay.bytesToClient };
    log('relay', { name, destination, by: process?.command, ...bytes, reason });
  });
});
capture.on('datagrams', ({ name, destination }) => log('datagrams', { name, destination }));
capture.on('query', ({ question, outcome }) => log('query', { ...question, outcome }));
capture.on('denied', ({ protocol, name, destination, because, process }) =>
  log('denied', { protocol, name, destination, because, by: process?.command }),
);
capture.on('error', (error) => log('error', { message: error.message }));

const child = capture.spawn(command, args, { stdio: 'inherit' });
// The terminal sends these to the shell too, which decides.
for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => {});
for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
process.exitCode = await new Promise<number>((resolve, reject) => {
  child.on('error', reject);
  child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
});
