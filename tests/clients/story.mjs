// What a client in JavaScript does with a service, and what it saw, as JSON: node story.mjs SERVICE_ROOT
import { createRequire } from "node:module";

const { OData } = createRequire(import.meta.url)("@odata/client");
const client = OData.New({ serviceEndpoint: `${process.argv[2]}/`, processCsrfToken: false });
const partners = client.getEntitySet("BusinessPartnerSet");
const seen = [];

for (let round = 0; round < 2; round++) {
  const one = await partners.retrieve("0100000000");
  seen.push([one.BusinessPartnerID, one.CompanyName, one.Address]);
  const some = client.newParam().top(3).orderby("CompanyName", "desc").select(["BusinessPartnerID", "CompanyName"]);
  seen.push(await partners.query(some).then((rows) => rows.map((row) => [row.BusinessPartnerID, row.CompanyName])));
  const filter = client.newFilter().property("CompanyName").ge("C");
  seen.push((await partners.query(filter)).map((row) => row.CompanyName));
  seen.push(await partners.count(filter));
}
const created = await partners.create({ BusinessPartnerID: "0200000001", CompanyName: "Harbour Works" });
seen.push(created.CompanyName);
await partners.update("0200000001", { CompanyName: "Quay Works" });
seen.push((await partners.retrieve("0200000001")).CompanyName);
const batched = await client.execBatchRequests([
  client.newBatchRequest({ collection: "BusinessPartnerSet", id: "0200000001", method: "GET" }),
  client.newBatchRequest({
    collection: "BusinessPartnerSet", id: "0200000001", method: "PATCH", entity: { CompanyName: "Pier Works" },
  }),
]);
seen.push(await Promise.all(batched.map(async (part) => [part.status, (await part.json().catch(() => null))?.d?.CompanyName])));
seen.push((await partners.retrieve("0200000001")).CompanyName);
await partners.delete("0200000001");
seen.push(await partners.retrieve("0200000001").then(() => "there", (error) => error.message));
console.log(JSON.stringify(seen));
