//! The plans of all that a connection has prepared: what a store has really sent, so a new statement is judged as soon as
//! a test makes the call that needs it.

use sqlx::{AssertSqlSafe, PgConnection};

/// A statement that a connection has prepared.
#[derive(Debug)]
pub struct Prepared {
    /// Its text.
    pub statement: String,
    /// Its plan for any arguments, as PostgreSQL's JSON.
    pub plan: serde_json::Value,
}

/// All that was prepared on this connection, catalogue queries left out.
pub async fn prepared(connection: &mut PgConnection) -> Vec<Prepared> {
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan").execute(&mut *connection).await.expect("set");
    let statements: Vec<(String, String, i32)> = sqlx::query_as(
        "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements
         WHERE statement !~ '_migrations|pg_|to_reg'",
    )
    .persistent(false)
    .fetch_all(&mut *connection)
    .await
    .expect("read");
    let mut all = Vec::with_capacity(statements.len());
    for (name, statement, parameters) in statements {
        let nothing = vec!["NULL"; usize::try_from(parameters).expect("a count")].join(", ");
        let arguments = if nothing.is_empty() { nothing } else { format!("({nothing})") };
        let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) EXECUTE {name}{arguments}"));
        let plan = sqlx::query_scalar(explain).persistent(false).fetch_one(&mut *connection).await.expect("explained");
        all.push(Prepared { statement, plan });
    }
    all
}

impl Prepared {
    /// The nodes of the plan that read a table, or an index, from one end to the other. Tables of one row may be named:
    /// to read those is no scan.
    #[must_use]
    pub fn scans(&self, tiny: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.plan, tiny, &mut found);
        found
    }
}

fn walk(plan: &serde_json::Value, tiny: &[&str], found: &mut Vec<String>) {
    if let Some(kind) = plan["Node Type"].as_str() {
        let relation = plan["Relation Name"].as_str().or(plan["Index Name"].as_str()).unwrap_or_default();
        let whole_index = kind.contains("Index") && plan.get("Index Cond").is_none();
        if (kind == "Seq Scan" && !tiny.contains(&relation)) || whole_index {
            found.push(format!("{kind} on {relation}"));
        }
    }
    let below =
        plan.as_array().into_iter().flatten().chain(plan.as_object().into_iter().flat_map(|node| node.values()));
    below.for_each(|plan| walk(plan, tiny, found));
}
