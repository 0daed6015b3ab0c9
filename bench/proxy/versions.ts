// Which versions of the programs are compared: each says it itself.
import { spawnSync } from 'node:child_process';

const QUESTIONS: Record<string, [string, string]> = {
  HAProxy: ['haproxy', '-v'],
  nginx: ['nginx', '-v'],
  mitmproxy: ['mitmdump', '--version'],
  redsocks: ['redsocks', '-v'],
};

/** `{ HAProxy: '2.6.12-1', Node: 'v20.20.2' }`, of those that one of the peers is called after. */
export function versions(peers: readonly string[]): Record<string, string> {
  const found: Record<string, string> = { Node: process.version };
  for (const [name, [command, flag]] of Object.entries(QUESTIONS)) {
    if (!peers.some((peer) => peer.includes(name))) continue;
    const { stdout, stderr } = spawnSync(command, [flag], { encoding: 'utf8' });
    const version = /\d+\.\d+[^\s,]*/.exec(`${stdout}${stderr}`);
    if (version) found[name] = version[0];
  }
  return found;
}
