#!/usr/bin/env node
// The command `original-dst`.
import { main } from './cli/program.ts';

// A reader that has gone (`| head`) is no failure of ours, and must not keep a proxy from removing its rules.
process.stdout.on('error', () => {});
await main(process.argv);
