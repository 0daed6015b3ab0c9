// What the documentation says: code blocks type-check, links lead somewhere, the table of errors is whole.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { errorsPage } from '../../scripts/docs/errors.ts';
import { root } from '../../scripts/native.ts';
import { anchors, blocks, links, pages } from '../fixtures/markdown.ts';

const all = pages(root);

t.test('every TypeScript block type-checks by itself', (t) => {
  // Inside the package, where `original-dst` is itself.
  const folder = join(root, '.cache/docs');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const found = all.flatMap(blocks).filter(({ language }) => language === 'ts');
  const files = found.map(({ page, line, text }) => {
    const file = join(folder, `${page.replaceAll(/\W/g, '-')}-${line}.ts`);
    writeFileSync(file, text);
    return file;
  });
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile) as {
    config: { compilerOptions: object };
  };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root);
  const program = ts.createProgram(files, {
    ...options,
    noEmit: true,
    incremental: false,
    noUnusedLocals: false,
    noUnusedParameters: false,
  });
  const errors = ts
    .getPreEmitDiagnostics(program)
    .map(
      (one) =>
        `${one.file?.fileName.slice(folder.length)}: ${ts.flattenDiagnosticMessageText(one.messageText, '\n')}`,
    );
  t.same(errors, []);
  t.ok(files.length > 5);
  t.end();
});

t.test('links lead to files and headings that exist', (t) => {
  const broken = all.flatMap((page) =>
    links(page).flatMap((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? join(root, page.path) : join(root, dirname(page.path), path);
      if (!existsSync(file)) return [`${page.path}: ${target}`];
      if (anchor === undefined || anchors(readFileSync(file, 'utf8')).includes(anchor)) return [];
      return [`${page.path}: ${target}`];
    }),
  );
  t.same(broken, []);
  t.end();
});

t.test('docs/errors.md has every code that lib/ gives', async (t) => {
  t.equal(readFileSync(join(root, 'docs/errors.md'), 'utf8'), await errorsPage(), 'run `npm run docs`');
});

t.test('the README is short', (t) => {
  t.ok(readFileSync(join(root, 'README.md'), 'utf8').split('\n').length <= 200);
  t.end();
});
