import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as z from 'zod';
import { allOperations, CONTRACT, GROUPS } from './contract.ts';
import { createMemoryWorld } from './testing/memory-operations.ts';
import { describeApi } from './openapi.ts';
import { fieldPlaces, NOTHING } from './operation.ts';

void describe('the contract', () => {
  for (const [name, of] of allOperations()) {
    void test(name, () => {
      assert.match(of.summary, /^[A-Z].*[^.]$/, 'a summary is a sentence without its full stop');
      assert.equal(new Set(of.errors).size, of.errors.length, 'an error is named twice');
      assert.ok(of.result === NOTHING || nameOf(of.result) !== undefined, 'the result is no named resource');
      const { path } = fieldPlaces(of);
      for (const field of path) assert.ok(field in of.input.shape, `:${field} is no field of the input`);
      if (path.length > 0) assert.ok(of.errors.includes('not-found'), 'what a path names may be missing');
      if (path.includes('ref') && of.method !== 'GET') assert.ok(of.errors.length > 1, 'a change can be refused');
      if (of.stream) assert.equal(of.method, 'GET');
      assert.ok(!of.input.safeParse({ ...validInput(of.input), surprise: 1 }).success, 'unknown fields are taken');
      for (const [field, schema] of Object.entries(jsonFields(of.input))) {
        assert.ok(
          schema.description ?? ['vm', 'token', 'limit', 'format'].includes(field),
          `${field} has no description`,
        );
      }
    });
  }

  void test('no two operations have one route, every group is in the contract', () => {
    const routes = allOperations().map(([, { method, path }]) => `${method} ${path.replaceAll(/:\w+/g, ':')}`);
    assert.equal(new Set(routes).size, routes.length);
    const grouped = Object.values(GROUPS).flatMap((group) => Object.keys(group));
    assert.deepEqual(grouped.toSorted(), Object.keys(CONTRACT).toSorted());
  });

  void test('intervals are 5 s to a day, 300 s by default', () => {
    const { input } = CONTRACT.replicationEnable;
    const enable = { vm: 'a', peer: 'b' };
    assert.deepEqual(input.parse(enable), {
      ...enable,
      intervalSeconds: 300,
      history: 24,
      thin: [],
      leaseSeconds: 0,
      readBytesPerSecond: 0,
      readIops: 0,
      autoResync: 'always',
      replicaPlaintext: false,
      useSeed: false,
      excludeDisks: [],
    });
    for (const intervalSeconds of [4, 86_401, 5.5]) assert.ok(!input.safeParse({ ...enable, intervalSeconds }).success);
    for (const intervalSeconds of [5, 86_400]) assert.ok(input.safeParse({ ...enable, intervalSeconds }).success);
  });

  void test('an exported file is named by an absolute path', () => {
    const request = { ref: 'a', point: 1, disk: 'vda' };
    assert.ok(!CONTRACT.pointExport.input.safeParse({ ...request, file: 'x.qcow2' }).success);
    assert.ok(CONTRACT.pointExport.input.safeParse({ ...request, file: '/tmp/x.qcow2' }).success);
  });

  void test('every operation is implemented by name', () => {
    assert.deepEqual(Object.keys(createMemoryWorld().operations).toSorted(), Object.keys(CONTRACT).toSorted());
  });
});

void describe('OpenAPI', () => {
  const document = describeApi('1.2.3') as {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string; parameters?: { name: string; in: string }[] }>>;
    components: { schemas: Record<string, { type: string; description?: string }> };
  };

  void test('has every operation once, with every parameter of its path', () => {
    assert.equal(document.openapi, '3.1.0');
    const ids = Object.values(document.paths).flatMap((item) =>
      Object.values(item).map(({ operationId }) => operationId),
    );
    assert.deepEqual(ids.toSorted(), Object.keys(CONTRACT).toSorted());
    for (const [path, item] of Object.entries(document.paths)) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      for (const { parameters = [] } of Object.values(item)) {
        const declared = parameters.filter((parameter) => parameter.in === 'path').map(({ name }) => name);
        assert.deepEqual(declared, named, path);
      }
    }
  });

  void test('refers only to what is there, and leaves nothing of zod behind', () => {
    const text = JSON.stringify(document);
    const referred = [...text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map((match) => match[1]!);
    assert.ok(referred.length > 30);
    for (const name of referred) assert.ok(name in document.components.schemas, `${name} is missing`);
    assert.ok(!text.includes('$defs') && !text.includes('$schema'));
  });

  void test('tells clients to bear new fields in answers, and refuses them in requests', () => {
    assert.ok(!JSON.stringify(document.components.schemas).includes('"additionalProperties":false'));
    const { requestBody } = document.paths['/api/v0/replications']!['post'] as unknown as {
      requestBody: {
        content: { 'application/json': { schema: { additionalProperties: boolean; required: string[] } } };
      };
    };
    const { schema } = requestBody.content['application/json'];
    assert.equal(schema.additionalProperties, false);
    assert.deepEqual(schema.required, ['vm', 'peer']);
  });
});

function nameOf(result: z.ZodType): unknown {
  return (result instanceof z.ZodArray ? (result.element as z.ZodType) : result).meta()?.id;
}

function jsonFields(input: z.ZodObject): Record<string, z.core.JSONSchema.BaseSchema> {
  return (z.toJSONSchema(input, { io: 'input' }).properties ?? {}) as Record<string, z.core.JSONSchema.BaseSchema>;
}

/** Something for every required field, so that only the surprise can be what is refused. */
function validInput(input: z.ZodObject): Record<string, unknown> {
  const { required = [] } = z.toJSONSchema(input, { io: 'input' });
  const fields = jsonFields(input);
  const value = Object.fromEntries(required.map((name) => [name, fields[name]?.type === 'string' ? '/x' : 1]));
  assert.ok(input.safeParse(value).success, 'the sample input is wrong');
  return value;
}
