// examples/sandbox: names from a file, and nothing else.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { inCaptureWorld, OTHER, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';

const script = fileURLToPath(new URL('../../examples/sandbox/main.js', import.meta.url));

await inCaptureWorld(t, import.meta.url, async () => {
  const world = await startWorld(t);
  const dir = t.testdir({ names: `# the only one\nweb.test:${PORT} # over TCP\n` });
  const get = (url: string): string => `curl -s -m 20 http://${url}/; echo $?`;
  const commands = [
    get(`web.test:${PORT}`),
    get(`other.test:${PORT}`),
    get(`${OTHER}:${PORT} -H 'Host: web.test'`),
    `exec 3<>/dev/udp/${WEB.v4}/9; echo hi >&3; read -r -t 20 -u 3 || echo refused`,
    'kill -TERM $$',
  ].join('; ');
  const args = [script, `${dir}/names`, '--log', `${dir}/log`, '--', 'bash', '-c', commands];
  const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>((done) => {
    execFile(process.execPath, args, (error, stdout) => done({ code: error?.code, stdout }));
  });
  t.equal(stdout, `hello from web.test:${PORT}\n0\n6\n56\nrefused\n`);
  t.equal(code, 143, 'as a shell says it');
  t.notOk(world.asked.includes('other.test'));
  t.same(new Set(world.connections), new Set([WEB.v4]));
  const log = readFileSync(`${dir}/log`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const find = (about: Record<string, string>): object | undefined =>
    log.find((line) => Object.entries(about).every(([key, value]) => line[key] === value));
  t.match(find({ event: 'relay' }), {
    name: 'web.test',
    destination: { address: WEB.v4 },
    by: ['curl', '-s'],
  });
  t.match(find({ event: 'query', name: 'other.test' }), { outcome: 'refused' });
  t.match(find({ event: 'denied', protocol: 'tcp' }), {
    destination: { address: OTHER },
    by: ['curl', '-s'],
  });
  t.match(find({ event: 'denied', protocol: 'udp' }), { destination: { address: WEB.v4, port: 9 } });
});
