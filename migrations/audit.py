"""The table of audit events, as the revisions of several databases create it.

It is never changed here: what changes it later is a revision of each of them.
"""

CREATE = """
CREATE TABLE audit_events (
    audit_event_id uuid        PRIMARY KEY DEFAULT uuidv7(),
    create_time    timestamptz NOT NULL DEFAULT now(),
    user_id        uuid        NOT NULL,
    role           text        NOT NULL CHECK (role IN ('staff', 'admin')),
    session_id     uuid        NOT NULL,
    client_address inet,
    request_id     text        NOT NULL,
    method         text        NOT NULL,
    resource       text        NOT NULL CHECK (resource <> ''),
    before         jsonb       CHECK (jsonb_typeof(before) = 'object'),
    after          jsonb       CHECK (jsonb_typeof(after) = 'object'),
    CHECK (num_nonnulls(before, after) > 0)
);
CREATE INDEX audit_events_user_id_idx ON audit_events (user_id, audit_event_id);
CREATE INDEX audit_events_resource_idx ON audit_events (resource, audit_event_id);
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

DROP = """
DROP TABLE audit_events;
"""
