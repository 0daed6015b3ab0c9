#!/usr/bin/env node
// The command `original-dst`.
import { main } from './cli/program.ts';
import { endWithTerminal } from './cli/terminal.ts';

// A reader that has gone (`| head`, a terminal that was closed) is no failure of ours, and must not keep a proxy from
// removing its rules.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
await main(process.argv);
// Those that are there get everything.
for (const stream of [process.stdout, process.stderr])
  await new Promise<unknown>((resolve) => stream.write('', resolve));
endWithTerminal();
// Not by itself: at the end of its event loop Node gives signals up, and Ctrl-C would still change the exit status.
process.exit();
