// Makes the one server of compose.yaml a replica set, and the user of message-svc: once; run again it changes nothing.
// Run by mongosh in the one-shot service `mongodb-init`.
const { readFileSync } = require("fs");

const secret = (name) => readFileSync(`/run/secrets/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");
admin.auth("root", secret("mongodb_root_password"));

try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] });
}
// Elected within seconds; the limit is the one of the service's healthy neighbours.
const until = Date.now() + 60_000;
while (!db.hello().isWritablePrimary) {
  if (Date.now() > until) throw new Error("no primary was elected within 60 s");
  sleep(200);
}
if (admin.getUser("switchboard") === null) {
  // dbAdmin is for collMod: a new version may bring another validator.
  const roles = ["readWrite", "dbAdmin"].map((role) => ({ role, db: "messages" }));
  admin.createUser({ user: "switchboard", pwd: secret("mongodb_password"), roles });
}
