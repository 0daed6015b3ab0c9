// nginx's stream module as a transparent proxy. It knows where a connection was going only from the socket's own
// address, so it can do TPROXY and not REDIRECT.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { maxConnections } from './measure.ts';

const MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';
const PACKAGE = 'libnginx-mod-stream';
// From dist/bench/proxy; the script stays where it is.
const LAUNCHER = fileURLToPath(new URL('../../../bench/proxy/transparent-listener.py', import.meta.url));

/** Debian has the module in a package of its own, without a command that scripts/ensure-tools.sh could look for. */
export function ensureStreamModule(): void {
  if (existsSync(MODULE)) return;
  const install = `apt-get install -qq -y --no-install-recommends ${PACKAGE}`;
  const script = `${install} || { apt-get update -qq && ${install}; }`;
  spawnSync('sh', ['-c', script], {
    stdio: 'ignore',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (existsSync(MODULE)) return;
  console.error(`missing: ${MODULE}. Install it first, on Debian or Ubuntu: sudo apt-get install ${PACKAGE}`);
  process.exit(1);
}

/** By default every connection goes where it was going. */
export function nginxStream(
  directory: string,
  port: number,
  map = '',
  options = '',
  destination = '$server_addr:$server_port',
): string[] {
  const file = `${directory}/nginx-${port}.conf`;
  writeFileSync(
    file,
    // Below nginx's own prefix: it may be one of newest-peers.sh.
    `load_module modules/ngx_stream_module.so;
daemon off; user root; pid ${directory}/nginx-${port}.pid; error_log ${directory}/nginx-${port}.log;
worker_processes 1; # with "master_process off" nginx crashes on an inherited listener
events { worker_connections ${2 * maxConnections()}; multi_accept on; accept_mutex off; }
stream {
  ${map}
  server {
    ${options}
    listen 0.0.0.0:${port} backlog=16384;
    proxy_pass ${destination};
    proxy_buffer_size 64k;
    proxy_connect_timeout 5s;
    proxy_timeout 900s;
  }
}
`,
  );
  return ['python3', LAUNCHER, String(port), 'nginx', '-c', file];
}
