// The demo itself, in a network namespace of its own (run.ts makes it): sets the stage, starts servers and proxy,
// sends the traffic, judges it, prints the table. Exit status 0 only if every line is as expected.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { startProxy } from './proxy.ts';
import { report } from './report.ts';
import { play, scenarios } from './scenarios.ts';
import { buildStage, on } from './stage.ts';
import { painter } from './table.ts';

// Nothing outlives the command that started this: its end, however it comes, closes the pipe.
process.stdin.resume().once('end', () => process.exit(1));

async function startServers(): Promise<void> {
  const script = fileURLToPath(new URL('servers.js', import.meta.url));
  const [command, args] = on('server', [process.execPath, ...process.execArgv, script]);
  // Its standard input is a pipe from here, for the same reason.
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const failed = once(child, 'exit').then(([status]) => {
    throw new Error(`the servers did not start: exit status ${status}`);
  });
  await Promise.race([once(child.stdout, 'data'), failed]);
}

async function perform(): Promise<number> {
  buildStage();
  const [visits] = await Promise.all([startProxy(), startServers()]);
  const outcomes = await Promise.all(scenarios().map((scenario) => play(scenario, visits)));
  const paint = painter(process.stdout.isTTY && process.stdout.hasColors());
  console.log('client ── proxy ── server: three hosts in private network namespaces, made without root');
  console.log(report(outcomes, performance.now(), paint));
  return outcomes.every(({ faults }) => faults.length === 0) ? 0 : 1;
}

try {
  process.exit(await perform());
} catch (error) {
  console.error(`demo: ${(error as Error).message.trim()}`);
  process.exit(1);
}
