"""UserService on the wire: messages to domain objects and back. No rules and no SQL live here."""

import uuid
from typing import Any, NoReturn, final

import grpc
from google.protobuf import empty_pb2

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import conversion, errors, ids, paging
from chassis.database import Database
from services.user import domain, repository
from services.user.passwords import Passwords

MAX_PAGE_SIZE = 1_000

_LIST_QUERY = "users"

Context = grpc.aio.ServicerContext[Any, Any]


@final
class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Serves users out of one database."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def CreateUser(
        self, request: user_pb2.CreateUserRequest, context: Context
    ) -> user_pb2.User:
        """Check, hash, insert."""
        profile = domain.check_profile(_parse_profile(request))
        domain.check_password(request.password, "password")
        password_hash = await self._passwords.hash(request.password)
        async with self._database.connection() as connection:
            user = await repository.insert_user(connection, profile, password_hash)
        return _to_message(user)

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Context) -> user_pb2.User:
        """Look up one id."""
        user_id = ids.parse_id(request.user_id, "user_id")
        async with self._database.connection() as connection:
            found = await repository.get_users(connection, [user_id])
        return _to_message(_only(found, user_id))

    async def UpdateUser(
        self, request: user_pb2.UpdateUserRequest, context: Context
    ) -> user_pb2.User:
        """Lock the user, decide on its new profile, save it if that differs."""
        user_id = ids.parse_id(request.user_id, "user_id")
        fields = conversion.parse_update_mask(request.update_mask, request.user, domain.UPDATABLE)
        changes = _parse_profile(request.user)
        async with self._database.transaction() as connection:
            user = _only(await repository.get_users(connection, [user_id], lock=True), user_id)
            profile = domain.update_profile(user, changes, fields, request.user.etag)
            if profile != user.profile:
                user = await repository.update_profile(connection, user_id, profile)
        return _to_message(user)

    async def DeleteUser(
        self, request: user_pb2.DeleteUserRequest, context: Context
    ) -> empty_pb2.Empty:
        """Delete one id."""
        user_id = ids.parse_id(request.user_id, "user_id")
        async with self._database.connection() as connection:
            deleted = await repository.delete_user(connection, user_id)
        if not deleted:
            _raise_not_found(user_id)
        return empty_pb2.Empty()

    async def ListUsers(
        self, request: user_pb2.ListUsersRequest, context: Context
    ) -> user_pb2.ListUsersResponse:
        """Read one row more than the page, to know whether there are more."""
        paging.check_page_size(request.page_size)
        size = min(request.page_size or paging.DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = _parse_page_token(request.page_token)
        async with self._database.connection() as connection:
            found = await repository.list_users(connection, after, size + 1)
        response = user_pb2.ListUsersResponse()
        count = paging.fill(response.users.add, found[:size], _fill_message)
        if len(found) > count:
            position = [str(found[count - 1].user_id)]
            response.next_page_token = paging.encode_token(_LIST_QUERY, position)
        return response

    async def ChangePassword(
        self, request: user_pb2.ChangePasswordRequest, context: Context
    ) -> empty_pb2.Empty:
        """Verify and hash outside any transaction, then swap the hash if nobody else did."""
        user_id = ids.parse_id(request.user_id, "user_id")
        domain.check_password(request.new_password, "new_password")
        async with self._database.connection() as connection:
            current = await repository.get_password_hash(connection, user_id)
        if current is None:
            _raise_not_found(user_id)
        if not await self._passwords.verify(current, request.current_password):
            raise errors.PermissionDenied("WRONG_PASSWORD", "The current password is wrong.")
        replacement = await self._passwords.hash(request.new_password)
        async with self._database.connection() as connection:
            if not await repository.replace_password_hash(
                connection, user_id, current, replacement
            ):
                message = "The password was changed meanwhile. Try again."
                raise errors.Aborted("PASSWORD_CHANGED", message)
        return empty_pb2.Empty()

    async def Login(
        self, request: user_pb2.LoginRequest, context: Context
    ) -> user_pb2.LoginResponse:
        """Not served yet."""
        raise _not_served("Login")

    async def RefreshToken(
        self, request: user_pb2.RefreshTokenRequest, context: Context
    ) -> user_pb2.RefreshTokenResponse:
        """Not served yet."""
        raise _not_served("RefreshToken")

    async def Logout(self, request: user_pb2.LogoutRequest, context: Context) -> empty_pb2.Empty:
        """Not served yet."""
        raise _not_served("Logout")

    async def BatchGetUsers(
        self, request: user_pb2.BatchGetUsersRequest, context: Context
    ) -> user_pb2.BatchGetUsersResponse:
        """Look up many ids with one query."""
        user_ids = ids.parse_ids(request.user_ids, "user_ids")
        mask = conversion.parse_read_mask(request.read_mask, user_pb2.User.DESCRIPTOR)
        async with self._database.connection() as connection:
            found = await repository.get_users(connection, user_ids)
        response = user_pb2.BatchGetUsersResponse()
        paging.fill_batch(
            response,
            response.users.add,
            found,
            lambda message, user: mask.MergeMessage(_to_message(user), message),
        )
        return response


def _parse_profile(message: user_pb2.CreateUserRequest | user_pb2.User) -> domain.Profile:
    return domain.Profile(
        email=message.email,
        display_name=message.display_name,
        addresses=tuple(
            domain.Address(
                label=address.label,
                recipient=address.recipient,
                lines=tuple(address.lines),
                city=address.city,
                postal_code=address.postal_code,
                region_code=address.region_code,
            )
            for address in message.addresses
        ),
    )


def _to_message(user: domain.User) -> user_pb2.User:
    return user_pb2.User(
        user_id=str(user.user_id),
        email=user.profile.email,
        display_name=user.profile.display_name,
        addresses=[
            user_pb2.Address(
                label=address.label,
                recipient=address.recipient,
                lines=address.lines,
                city=address.city,
                postal_code=address.postal_code,
                region_code=address.region_code,
            )
            for address in user.profile.addresses
        ],
        etag=str(user.version),
        create_time=conversion.to_timestamp(user.create_time),
        update_time=conversion.to_timestamp(user.update_time),
    )


def _fill_message(message: user_pb2.User, user: domain.User) -> None:
    message.MergeFrom(_to_message(user))


def _parse_page_token(token: str) -> uuid.UUID | None:
    position = paging.decode_token(token, _LIST_QUERY)
    return None if position is None else ids.parse_id(position[0], "page_token")


def _only(found: list[domain.User], user_id: uuid.UUID) -> domain.User:
    if not found:
        _raise_not_found(user_id)
    return found[0]


def _raise_not_found(user_id: uuid.UUID) -> NoReturn:
    raise errors.NotFound(
        "USER_NOT_FOUND", f"There is no user {user_id}.", metadata={"user_id": str(user_id)}
    )


def _not_served(method: str) -> errors.Unimplemented:
    return errors.Unimplemented("NOT_IMPLEMENTED", f"{method} is not served yet.")
