// examples/sandbox: names from a file, and nothing else. examples/capture-tests: calls answered from a file, HTTPS too.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { inCaptureWorld, OTHER, packetsOut, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';

const example = (name: string): string =>
  fileURLToPath(new URL(`../../examples/${name}/main.js`, import.meta.url));

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function run(args: string[]): Promise<Ended> {
  return new Promise((done) => {
    execFile(process.execPath, args, (error, stdout, stderr) =>
      done({ code: Number(error?.code ?? 0), stdout, stderr }),
    );
  });
}

await inCaptureWorld(t, import.meta.url, async () => {
  await t.test('sandbox', async (t) => {
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
    const args = [example('sandbox'), `${dir}/names`, '--log', `${dir}/log`, '--', 'bash', '-c', commands];
    const { code, stdout } = await run(args);
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

  await t.test('capture-tests, by the clients of three languages', async (t) => {
    const answers = {
      'GET https://api.test/users/7': { body: { name: 'Ada' } },
      'GET http://plain.test:8080/': { status: 203, body: 'not encrypted' },
    };
    const dir = t.testdir({ 'answers.json': JSON.stringify(answers) });
    const test = (...commands: string[]): Promise<Ended> =>
      run([example('capture-tests'), `${dir}/answers.json`, '--', 'bash', '-c', commands.join('; ')]);
    const users = 'https://api.test/users/7';
    const fetched = `fetch('${users}').then(async (r) => console.log(await r.text()))`;
    const python = `import urllib.request as u; print(u.urlopen("${users}").read().decode())`;
    const fine = await test(
      `curl -sS -w '\\n' ${users}`,
      `${process.execPath} -e "${fetched}"`,
      `python3 -c '${python}'`,
      `curl -sS -w ' %{http_code}\\n' http://plain.test:8080/`,
    );
    const ada = '{"name":"Ada"}\n';
    t.same(fine, { code: 0, stdout: `${ada}${ada}${ada}not encrypted 203\n`, stderr: '' });
    const wrong = await test(
      `curl -s ${users}9`,
      `exec 3<>/dev/tcp/other.test/25; echo EHLO >&3; read -r <&3; echo "exit $?"`,
    );
    t.match(wrong, {
      code: 1,
      stdout: `no answer for GET ${users}9\nexit 1\n`,
      stderr:
        /^unexpected: GET https:\/\/api\.test\/users\/79\nunexpected: TCP (192\.0\.2\.80|2001:db8::80) 25\n$/m,
    });
    t.equal(packetsOut(), 0);
  });
});
