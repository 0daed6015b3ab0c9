// Modules that are loaded when they are first used, because most programs never use them and would pay for them at
// every start: dns-packet, which is CommonJS (a lexer, nine files), more than all the rest of this package together.
import { createRequire } from 'node:module';
import type * as ChildProcess from 'node:child_process';
import type { Cluster } from 'node:cluster';
import type * as Crypto from 'node:crypto';
import type * as Dns from 'node:dns';
import type * as Http from 'node:http';
import type * as WorkerThreads from 'node:worker_threads';
import type * as DnsPacket from 'dns-packet';

const require = createRequire(import.meta.url);

export const childProcess = (): typeof ChildProcess => require('node:child_process') as typeof ChildProcess;
export const cluster = (): Cluster => require('node:cluster') as Cluster;
export const crypto = (): typeof Crypto => require('node:crypto') as typeof Crypto;
export const dns = (): typeof Dns => require('node:dns') as typeof Dns;
export const http = (): typeof Http => require('node:http') as typeof Http;
export const workerThreads = (): typeof WorkerThreads =>
  require('node:worker_threads') as typeof WorkerThreads;
export const dnsPacket = (): typeof DnsPacket => require('dns-packet') as typeof DnsPacket;
