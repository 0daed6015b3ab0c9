// examples/capture-tests: calls answered from a file, HTTPS too, by the clients of three languages.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { inCaptureWorld, packetsOut } from '../fixtures/capture-world.ts';

const script = fileURLToPath(new URL('../../examples/capture-tests/main.js', import.meta.url));

await inCaptureWorld(t, import.meta.url, async () => {
  const answers = {
    'GET https://api.test/users/7': { body: { name: 'Ada' } },
    'GET http://plain.test:8080/': { status: 203, body: 'not encrypted' },
  };
  const dir = t.testdir({ 'answers.json': JSON.stringify(answers) });
  const run = (...commands: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
    new Promise((done) => {
      const args = [script, `${dir}/answers.json`, '--', 'bash', '-c', commands.join('; ')];
      execFile(process.execPath, args, (error, stdout, stderr) =>
        done({ code: Number(error?.code ?? 0), stdout, stderr }),
      );
    });
  const users = 'https://api.test/users/7';
  const fetched = `fetch('${users}').then(async (r) => console.log(await r.text()))`;
  const python = `import urllib.request as u; print(u.urlopen("${users}").read().decode())`;
  const fine = await run(
    `curl -sS -w '\\n' ${users}`,
    `${process.execPath} -e "${fetched}"`,
    `python3 -c '${python}'`,
    `curl -sS -w ' %{http_code}\\n' http://plain.test:8080/`,
  );
  const ada = '{"name":"Ada"}\n';
  t.same(fine, { code: 0, stdout: `${ada}${ada}${ada}not encrypted 203\n`, stderr: '' });
  const wrong = await run(
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
