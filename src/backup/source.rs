//! The connection to the server that is backed up.
//!
//! Called by [`super::run`] and [`super::server`].

use crate::postgres::{Facts, Installed, PostgresSettings, Session, Tools};

use super::BackupError;
use super::shared::SharedServer;

/// An open session, its server's facts, and the tools that fit the server.
pub(super) struct Source {
    pub session: Session,
    pub facts: Facts,
    pub tools: Tools,
}

impl Source {
    /// Connects, to a server that is known with its tools; else with the newest psql to learn the server's version, then with the
    /// psql that belongs to the right `pg_dump`.
    pub async fn connect(settings: &PostgresSettings, server: Option<&SharedServer>) -> Result<Self, BackupError> {
        if let Some(server) = server {
            return Self::open(settings, server.tools.clone(), server.ended.take()).await;
        }
        let installed = Installed::find(settings.pg_dump_path.as_deref(), &settings.environment).await?;
        let newest = Self::open(settings, installed.newest()?, None).await?;
        let tools = installed.choose(&newest.facts.version())?;
        if tools.psql == newest.tools.psql {
            return Ok(Self { tools, ..newest });
        }
        newest.session.close().await;
        Self::open(settings, tools, None).await
    }

    async fn open(settings: &PostgresSettings, tools: Tools, ended: Option<Session>) -> Result<Self, BackupError> {
        let mut session = Session::connect_after(ended, &tools, settings).await?;
        let facts = Facts::ask(&mut session).await?;
        Ok(Self { session, facts, tools })
    }
}
