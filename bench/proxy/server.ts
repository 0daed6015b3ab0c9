// The server behind the proxies: nginx, which answers with two bytes, with big files, or with the address that asks.
import { execFileSync, spawn } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HEADER_PORT, type Mode, NAME, on, PROXY, SERVER } from './topology.ts';

// One for each stream (big-files.lua): of a single one, whoever serves all streams in step would have the next bytes in the
// processor's cache already, which no traffic has.
const BIG_FILES = 64;
const BIG_FILE_BYTES = 8 * 2 ** 20;

/** Starts the server; returns what stops it. */
export async function startServer(directory: string, pin: string[]): Promise<() => void> {
  for (let at = 0; at < BIG_FILES; at++) {
    const file = join(directory, `big${at}`);
    writeFileSync(file, '');
    truncateSync(file, BIG_FILE_BYTES);
  }
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const files = ['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')];
  execFileSync('openssl', ['req', ...kind, '-subj', `/CN=${NAME}`, ...files], { stdio: 'ignore' });
  // Debian's are another user's, whom only root can make their owner.
  const temporaries = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${directory}/${name};`)
    .join(' ');
  writeFileSync(
    join(directory, 'nginx.conf'),
    `daemon off; user root; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
worker_processes 1; worker_rlimit_nofile 90000;
events { worker_connections 40000; }
http {
  ${temporaries}
  access_log off; sendfile on; tcp_nodelay on;
  keepalive_requests 100000000; client_header_timeout 900s; keepalive_timeout 900s;
  server {
    listen 80 backlog=16384;
    listen ${HEADER_PORT} proxy_protocol backlog=16384;
    listen 443 ssl backlog=16384;
    ssl_certificate ${directory}/cert.pem;
    ssl_certificate_key ${directory}/key.pem;
    location = /small { return 200 "ok"; }
    location = /asked-by { return 200 "$remote_addr"; }
    location / { root ${directory}; }
  }
}
`,
  );
  const [command, ...args] = [...pin, ...on('server', ['nginx', '-c', join(directory, 'nginx.conf')])];
  const child = spawn(command!, args, { stdio: 'inherit' });
  await delay(500);
  return () => child.kill('SIGTERM');
}

/** Throws unless the client's requests come to the server from the proxy, or from the one that it goes by way of. */
export function checkProxied(mode: Mode, viaSocks = false): void {
  if (mode === 'ebpf') {
    // Its host has one address towards the server, captured or not. Who is captured has one of the loopback interface.
    const [curl, ...args] = on('client', [
      'curl',
      '-sS',
      '-m',
      '10',
      '-w',
      '%{local_ip}',
      `http://${NAME}/small`,
    ]);
    const answer = execFileSync(curl!, args, { encoding: 'utf8' });
    if (answer !== 'ok127.0.0.1') throw new Error(`the client is not captured: ${answer}`);
    return;
  }
  const [command, ...args] = on('client', ['curl', '-sS', '-m', '30', `http://${NAME}/asked-by`]);
  const address = execFileSync(command!, args, { encoding: 'utf8' });
  if (address !== (viaSocks ? SERVER : PROXY))
    throw new Error(`the server is asked by ${address}, not by the proxy`);
}
