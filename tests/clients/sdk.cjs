// The AWS SDK for JavaScript: objects, parts, conditions, listings, presigned URLs.
"use strict";
const { strict: assert } = require("node:assert");
const sdk = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const Bucket = "by-node";
const s3 = new sdk.S3Client({ forcePathStyle: true });

async function main() {
  await s3.send(new sdk.CreateBucketCommand({ Bucket }));
  const small = { Bucket, Key: "dir/a b+c.txt", Body: "hello", Metadata: { who: "ann" } };
  await s3.send(new sdk.PutObjectCommand({ ...small, ContentType: "text/plain" }));
  const got = await s3.send(new sdk.GetObjectCommand({ Bucket, Key: small.Key }));
  assert.equal(await got.Body.transformToString(), "hello");
  assert.deepEqual([got.ContentType, got.Metadata], ["text/plain", { who: "ann" }]);
  await assert.rejects(
    s3.send(new sdk.PutObjectCommand({ ...small, IfNoneMatch: "*" })),
    { name: "PreconditionFailed" },
  );
  const large = Buffer.alloc(12_000_000, "z");
  await new Upload({ client: s3, params: { Bucket, Key: "large", Body: large } }).done();
  const part = await s3.send(new sdk.GetObjectCommand({ Bucket, Key: "large", Range: "bytes=-3" }));
  assert.equal(await part.Body.transformToString(), "zzz");
  const url = await getSignedUrl(s3, new sdk.GetObjectCommand({ Bucket, Key: small.Key }));
  assert.equal(await (await fetch(url)).text(), "hello");
  await s3.send(new sdk.CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/dir/a%20b%2Bc.txt` }));
  const keys = [];
  for await (const page of sdk.paginateListObjectsV2({ client: s3, pageSize: 1 }, { Bucket })) {
    keys.push(...(page.Contents ?? []).map((each) => each.Key));
  }
  assert.deepEqual(keys, ["copy", "dir/a b+c.txt", "large"]);
  const Objects = keys.map((Key) => ({ Key }));
  const gone = await s3.send(new sdk.DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
  assert.equal(gone.Deleted.length, 3);
  await assert.rejects(s3.send(new sdk.HeadObjectCommand({ Bucket, Key: "large" })), { name: "NotFound" });
  await s3.send(new sdk.DeleteBucketCommand({ Bucket }));
  console.log("done");
}

main();
