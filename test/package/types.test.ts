// What the types promise: a consumer's program compiles, and whatever a public type names can be imported.
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { root } from '../../scripts/native.ts';

const entries = [
  'lib/index.ts',
  'lib/capture/index.ts',
  'lib/doctor/index.ts',
  'lib/rules/index.ts',
  'lib/ebpf/index.ts',
  'lib/metrics/index.ts',
].map((file) => join(root, file));
const consumer = join(root, 'test/fixtures/types/consumer.ts');

const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile) as {
  config: { compilerOptions: object };
};
const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root);
const program = ts.createProgram([...entries, consumer], { ...options, noEmit: true, incremental: false });
const checker = program.getTypeChecker();

/** Is it no part of the public face: #private, marked @internal, the body of an overloaded function? */
function isHidden(node: ts.Node): boolean {
  if (ts.isBlock(node)) return true;
  if (ts.isClassElement(node) && node.name !== undefined && ts.isPrivateIdentifier(node.name)) return true;
  if (ts.getJSDocTags(node).some(({ tagName }) => tagName.text === 'internal')) return true;
  if (!ts.isFunctionDeclaration(node) || node.body === undefined) return false;
  return checker.getSymbolAtLocation(node.name!)!.declarations!.length > 1;
}

function targetOf(symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

t.test('a consumer’s program compiles', (t) => {
  const errors = program
    .getSemanticDiagnostics(program.getSourceFile(consumer))
    .map(({ messageText, start }) => {
      const line = program.getSourceFile(consumer)!.getLineAndCharacterOfPosition(start!).line + 1;
      return `${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
  t.same(errors, []);
  t.end();
});

t.test('whatever a public type names is exported', (t) => {
  const modules = entries.map((file) => checker.getSymbolAtLocation(program.getSourceFile(file)!)!);
  const exported = new Set(modules.flatMap((module) => checker.getExportsOfModule(module).map(targetOf)));
  const leaks = new Set<string>();
  const visit = (node: ts.Node, owner: ts.Symbol): void => {
    if (isHidden(node)) return;
    const name = ts.isTypeReferenceNode(node)
      ? node.typeName
      : ts.isExpressionWithTypeArguments(node)
        ? node.expression
        : undefined;
    const found = name && checker.getSymbolAtLocation(name);
    const named = found && targetOf(found);
    const [declaration] = named?.declarations ?? [];
    const ours = declaration?.getSourceFile().fileName.startsWith(join(root, 'lib/'));
    if (named && ours && !ts.isTypeParameterDeclaration(declaration!) && !exported.has(named))
      leaks.add(`${owner.name} names ${named.name}`);
    ts.forEachChild(node, (child) => visit(child, owner));
  };
  for (const symbol of exported) {
    for (const declaration of symbol.declarations ?? []) visit(declaration, symbol);
  }
  t.ok(exported.size > 50, `${exported.size} names`);
  t.same([...leaks].sort(), []);
  t.end();
});
