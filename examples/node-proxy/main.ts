// One process for all pods of a node: see README.md.
//
//   node node-proxy/main.js --directory /run/netns
import { readdirSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Pod } from './pod.ts';

const { values } = parseArgs({
  options: {
    directory: { type: 'string', default: '/run/netns' },
    grace: { type: 'string', default: '10000' },
  },
});
const { directory } = values;
const grace = Number(values.grace);

function log(event: string, about: object): void {
  console.log(JSON.stringify({ time: new Date().toISOString(), event, ...about }));
}

/** By the inode of nsfs: another pod may have the name of one that is gone. */
const pods = new Map<number, { name: string; pod: Pod }>();

async function begin(name: string, inode: number): Promise<void> {
  let pod: Pod;
  try {
    pod = new Pod(join(directory, name), (event, about) => log(event, { pod: name, ...about }));
  } catch {
    return; // not mounted yet, or gone again: its directory will say so
  }
  pods.set(inode, { name, pod });
  try {
    await pod.start();
    log('joined', { pod: name });
  } catch (error) {
    log('error', { pod: name, message: (error as Error).message });
    await end(inode, 0);
  }
}

async function end(inode: number, wait = grace): Promise<void> {
  const { name, pod } = pods.get(inode)!;
  pods.delete(inode);
  await pod.stop(wait);
  log('left', { pod: name });
}

/** The device of nsfs: a name whose namespace is not mounted on it yet is an empty file. */
const { dev: nsfs } = statSync('/proc/self/ns/net');

function namespaces(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync(directory)) {
    const { dev, ino } = statSync(join(directory, name), { throwIfNoEntry: false }) ?? {};
    if (dev === nsfs) found.set(ino!, name);
  }
  return found;
}

let stopping = false;

function compare(): void {
  if (stopping) return;
  const found = namespaces();
  for (const inode of pods.keys()) if (!found.has(inode)) void end(inode);
  for (const [inode, name] of found) if (!pods.has(inode)) void begin(name, inode);
}

// The mount that follows a new name is no event of the directory's: looked at once more, soon.
const watcher = watch(directory, () => [0, 50, 250, 1000].forEach((ms) => setTimeout(compare, ms)));
compare();
log('ready', { directory });

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, async () => {
    stopping = true;
    watcher.close();
    await Promise.all([...pods.keys()].map((inode) => end(inode)));
    log('done', {});
  });
}
